"""The training loop shared by all jobs.

Callbacks report, evaluate and save.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import math
import time
import types

import jax

from vit_jax.checkpoints import finite
from vit_jax.training import state as state_lib
from vit_jax.training import steps

STEPS_AHEAD = 2  # Dispatched but unfinished steps; each holds a batch.

Evaluation = Callable[[int, state_lib.State], None]  # Gets the step and state.

_ADVICE = (
  '; the run stops, and its checkpoints are from earlier steps. Common'
  ' remedies: lower optim.lr, raise optim.warmup_steps, or set'
  ' optim.clip_norm=1.'
)


@dataclasses.dataclass(frozen=True)
class Progress:
  """The content of a progress report.

  Attributes:
    step: number of steps taken.
    metrics: metrics of this step's batch only, so that they do not depend on
      where a run was interrupted; without loss and accuracy if no example of
      the batch can be read.
    seconds_per_step: mean since the last report, excluding evaluation and
      saving.
    data_wait: share of that time spent waiting for data.
  """

  step: int
  metrics: dict[str, float]
  seconds_per_step: float
  data_wait: float


def train(
  state: state_lib.State,
  train_step: steps.Step,
  batches: Iterator[steps.Batch],
  *,
  start_step: int,
  total_steps: int,
  log_every: int,
  report: Callable[[Progress], None],
  evaluations: Sequence[tuple[int, Evaluation]] = (),
  also_at: Mapping[int, Evaluation] = types.MappingProxyType({}),
  checkpoint_every: int = 0,
  save: Callable[[int, state_lib.State], None],
  before_step: Callable[[int], None] = lambda step: None,
  should_stop: Callable[[int], bool] = lambda step: False,
) -> tuple[state_lib.State, int]:
  """Trains until `total_steps` or until `should_stop` returns True.

  If several actions are due at a step, the order is report, evaluate, save, so
  that metrics up to a checkpoint are recorded before the checkpoint. The last
  step is always saved; the caller evaluates it.

  Args:
    state: the state at `start_step`; donated to the step.
    train_step: the jitted step.
    batches: batches on the devices, starting with that of `start_step`.
    start_step: number of steps already taken.
    total_steps: step at which training ends.
    log_every: steps between reports; the last step is always reported.
    report: called with the progress.
    evaluations: pairs of an interval in steps (0: never) and a function to call
      with the step and the state.
    also_at: further evaluations, by their steps.
    checkpoint_every: steps between saves; 0 saves only the last step.
    save: called with the step and the state.
    before_step: called before each step with the number of steps taken.
    should_stop: called after each step with the number of steps taken; True
      saves and ends the training.

  Returns:
    The last state and its step.

  Raises:
    finite.NonFiniteError: at the first step with a metric that is not finite,
      or when a state to evaluate or save is not finite; this state is neither
      evaluated nor saved.
  """
  pending = collections.deque()
  fetched = {}
  timer = _Timer()
  step = start_step

  def settle(most: int) -> None:
    nonlocal fetched
    while len(pending) > most:
      at, metrics = pending.popleft()
      fetched = _divide(jax.device_get(metrics))
      _check_finite(at, fetched)

  while step < total_steps:
    before_step(step)
    with timer.waiting():
      batch = next(batches)
    with jax.transfer_guard('disallow'):
      state, metrics = train_step(state, batch)
    step += 1
    timer.steps += 1
    pending.append((step, metrics))
    settle(STEPS_AHEAD)

    last = step == total_steps
    stop = should_stop(step)
    log_now = last or step % log_every == 0
    save_now = last or stop or _is_due(step, checkpoint_every)
    due = [] if last else [e for n, e in evaluations if _is_due(step, n)]
    if not last and step in also_at and also_at[step] not in due:
      due.append(also_at[step])
    if not (log_now or save_now or due):
      continue
    settle(0)
    if log_now:
      report(Progress(step, fetched, *timer.lap()))
    with timer.paused():
      if due or save_now:
        finite.check(state, f'step {step}', _ADVICE)
      for evaluate in due:
        evaluate(step, state)
      if save_now:
        save(step, state)
    if stop:
      break
  return state, step


def _is_due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0


def _divide(metrics: steps.Metrics) -> dict[str, float]:
  # A metric is not defined for a batch without examples.
  return {
    name: float(total) / float(count)
    for name, (total, count) in metrics.items()
    if count
  }


def _check_finite(step: int, metrics: dict[str, float]) -> None:
  bad = [name for name, value in metrics.items() if not math.isfinite(value)]
  if bad:
    values = ', '.join(f'{name}={metrics[name]}' for name in bad)
    raise finite.NonFiniteError(f'{values} at step {step}{_ADVICE}')


class _Timer:
  """Time per step, and the share of it spent waiting for data."""

  def __init__(self):
    self._reset()

  def _reset(self):
    self.steps = 0
    self._begin = time.perf_counter()
    self._paused = self._waited = 0.0

  @contextlib.contextmanager
  def waiting(self):
    """Counts the time inside as waiting for data."""
    begin = time.perf_counter()
    yield
    self._waited += time.perf_counter() - begin

  @contextlib.contextmanager
  def paused(self):
    """Excludes the time inside from the time per step."""
    begin = time.perf_counter()
    yield
    self._paused += time.perf_counter() - begin

  def lap(self) -> tuple[float, float]:
    """Returns seconds per step and the share of waiting since the last call."""
    busy = time.perf_counter() - self._begin - self._paused
    result = busy / max(self.steps, 1), self._waited / busy
    self._reset()
    return result
