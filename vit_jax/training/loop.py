"""The one training loop. It is handed what saves, evaluates and reports."""

import collections
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import math
import time

import jax

from vit_jax.training import state as state_lib
from vit_jax.training import steps

STEPS_AHEAD = 2  # Dispatched and not yet waited for; each holds a batch.

Evaluation = Callable[[int, state_lib.State], None]  # Of the step reached.


class NonFiniteError(ValueError):
  """A metric became NaN or infinite."""


@dataclasses.dataclass(frozen=True)
class Progress:
  """What a progress line says.

  Attributes:
    step: steps taken in all.
    metrics: of the batch of this very step, so that they do not depend on
      where a run was interrupted.
    seconds_per_step: mean since the last report, evaluation and saving apart.
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
  checkpoint_every: int = 0,
  save: Callable[[int, state_lib.State], None],
  before_step: Callable[[int], None] = lambda step: None,
  should_stop: Callable[[int], bool] = lambda step: False,
) -> tuple[state_lib.State, int]:
  """Trains until `total_steps`, or until asked to stop.

  At a step where several are due, the order is report, evaluate, save: what
  a checkpoint's step led to is on record before the checkpoint is. The last
  step is saved always and evaluated by the caller.

  Args:
    state: at `start_step`; donated to the step.
    train_step: jitted.
    batches: on the devices; the first is that of `start_step`.
    start_step: steps already taken.
    total_steps: the step to end at.
    log_every: steps between reports; the last step is reported too.
    report: called with what a progress line says.
    evaluations: the steps between calls, 0 for none, and what is called with
      the step and its state.
    checkpoint_every: steps between saves; 0 for the last step alone.
    save: called with the step and its state.
    before_step: called before each step with the steps taken so far.
    should_stop: asked after each step, with its number; True saves and returns.

  Returns:
    The state and the step that was reached.

  Raises:
    NonFiniteError: at the first step whose loss is not a finite number; the
      state of that step is not saved.
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
    timer.start_waiting()
    batch = next(batches)
    timer.stop_waiting()
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
    if not (log_now or save_now or due):
      continue
    settle(0)
    if log_now:
      report(Progress(step, fetched, *timer.lap()))
    with timer.paused():
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
  return {
    name: float(total) / float(count)
    for name, (total, count) in metrics.items()
  }


def _check_finite(step: int, metrics: dict[str, float]) -> None:
  bad = [name for name, value in metrics.items() if not math.isfinite(value)]
  if bad:
    values = ', '.join(f'{name}={metrics[name]}' for name in bad)
    raise NonFiniteError(
      f'{values} at step {step}; the run stops, and its last checkpoint is from'
      ' an earlier step. Usual remedies: a lower optim.lr, a longer'
      ' optim.warmup_steps, optim.clip_norm=1.'
    )


class _Timer:
  """Time per step and share of it spent waiting for data."""

  def __init__(self):
    self._reset()

  def _reset(self):
    self.steps = 0
    self._begin = time.perf_counter()
    self._paused = self._waited = 0.0

  def start_waiting(self):
    self._wait_begin = time.perf_counter()

  def stop_waiting(self):
    self._waited += time.perf_counter() - self._wait_begin

  def paused(self):
    return _Pause(self)

  def add_pause(self, seconds: float):
    self._paused += seconds

  def lap(self) -> tuple[float, float]:
    busy = time.perf_counter() - self._begin - self._paused
    result = busy / max(self.steps, 1), self._waited / busy
    self._reset()
    return result


class _Pause:
  """Time that counts for nothing."""

  def __init__(self, timer: _Timer):
    self._timer = timer

  def __enter__(self):
    self._begin = time.perf_counter()

  def __exit__(self, *unused):
    self._timer.add_pause(time.perf_counter() - self._begin)
