import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.checkpoints import finite
from vit_jax.training import loop
from vit_jax.training import state as state_lib

ONE = jnp.ones(())


@jax.jit
def count_step(state, batch):
  value = state.params + batch['x']
  new = state_lib.State(state.step + 1, value, None, ())
  return new, {'loss': (2 * value, 2 * ONE), 'learning_rate': (ONE, ONE)}


def run(
  total_steps,
  *,
  start_step=0,
  bad_at=None,
  evaluate=(),
  step=count_step,
  **kwargs,
):
  """Runs the loop over batches 0, 1, 2, ...; returns the calls that it made."""
  calls = []

  def recorder(name):
    return lambda step, state: calls.append((name, step))

  batches = (
    {'x': jnp.float32(np.nan if i == bad_at else i)}
    for i in itertools.count(start_step)
  )
  state = state_lib.State(jnp.int32(start_step), jnp.float32(0), None, ())
  try:
    state, step = loop.train(
      state,
      step,
      batches,
      start_step=start_step,
      total_steps=total_steps,
      report=lambda p: calls.append(('report', p.step, p.metrics.get('loss'))),
      evaluations=[(every, recorder(name)) for name, every in evaluate],
      save=recorder('save'),
      **{'log_every': 2} | kwargs,
    )
  except finite.NonFiniteError as error:
    return calls, str(error)
  return calls, (step, float(state.params))


def test_order_of_report_evaluate_save():
  evaluate = [('evaluate', 2), ('never', 0), ('few_shot', 4)]
  calls, end = run(5, evaluate=evaluate, checkpoint_every=4)
  assert calls == [
    ('report', 2, 1.0),
    ('evaluate', 2),
    ('report', 4, 6.0),
    ('evaluate', 4),
    ('few_shot', 4),
    ('save', 4),
    ('report', 5, 10.0),
    ('save', 5),
  ]
  assert end == (5, 10.0)


def test_last_step_is_evaluated_by_the_caller():
  calls, _ = run(4, evaluate=[('evaluate', 2)])
  assert ('evaluate', 2) in calls
  assert ('evaluate', 4) not in calls


def test_resuming_from_a_step():
  calls, end = run(4, start_step=3)
  assert calls == [('report', 4, 3.0), ('save', 4)]
  assert end == (4, 3.0)


def test_stop_saves_at_once():
  calls, end = run(9, should_stop=lambda step: step == 3)
  assert calls == [('report', 2, 1.0), ('save', 3)]
  assert end == (3, 3.0)


@pytest.mark.parametrize('bad_at', [0, 3, 6])
def test_nan_is_reported_with_its_step_and_not_saved(bad_at):
  calls, message = run(7, bad_at=bad_at, checkpoint_every=1, log_every=100)
  assert f'loss=nan at step {bad_at + 1};' in message
  assert calls == [('save', i) for i in range(1, bad_at + 1)]


def test_metrics_of_a_batch_without_examples_are_left_out():
  @jax.jit
  def step(state, batch):
    new, metrics = count_step(state, batch)
    count = jnp.minimum(batch['x'], 1)  # Only the first batch has none.
    return new, metrics | {'loss': (batch['x'], count)}

  calls, _ = run(3, step=step, log_every=1, checkpoint_every=1)
  assert calls == [
    ('report', 1, None),
    ('save', 1),
    ('report', 2, 1.0),
    ('save', 2),
    ('report', 3, 2.0),
    ('save', 3),
  ]


@pytest.mark.parametrize('part', ['params', 'ema_params', 'opt_state'])
def test_a_state_that_is_not_finite_is_neither_evaluated_nor_saved(part):
  @jax.jit
  def step(state, batch):
    new, metrics = count_step(state, batch)
    bad = jnp.where(new.step == 5, jnp.inf, new.params)
    return new.replace(**{part: bad}), metrics

  calls, message = run(
    9, step=step, evaluate=[('evaluate', 5)], checkpoint_every=2
  )
  # The metrics of step 5 are finite.
  assert f'step 5: NaN or infinite values in {part};' in message
  assert [call for call in calls if call[0] != 'report'] == [
    ('save', 2),
    ('save', 4),
  ]


def test_hidden_transfers_in_the_step_are_errors():
  def step(state, batch):
    return state, {'loss': (jnp.add(batch['x'], np.float32(1)), ONE)}

  with pytest.raises(Exception, match='Disallowed host-to-device transfer'):
    loop.train(
      None,
      step,
      iter([{'x': ONE}]),
      start_step=0,
      total_steps=1,
      log_every=1,
      report=json.dumps,
      save=None,
    )
