"""Metric history of a run: `metrics.jsonl` and TensorBoard events.

`metrics.jsonl` has one line per event, with `step` and flat names such as
`train/loss`. Metrics under `perf/` depend on the machine and its load; all
others depend only on the config. Every process calls these functions; only
process 0 writes.
"""

import logging

from etils import epath
from jaxtyping import UInt8
import numpy as np

from vit_jax.distributed import processes
from vit_jax.training import loop
from vit_jax.workdir import appended_file, console, event_file, files

# Prefixes of metrics that are not named after a split.
RESERVED = ('train', 'perf', 'best', 'few_shot')

_log = logging.getLogger(__name__)


class MetricLog:
  """`metrics.jsonl` and TensorBoard events of one run.

  An interrupted run may have events after the checkpoint that it resumes from.
  They are removed from `metrics.jsonl`, as the resumed run writes them again.

  Attributes:
    events: all events so far.
  """

  def __init__(self, workdir: epath.Path, *, resume_step: int):
    path = workdir / files.METRICS
    events = processes.from_first(lambda: files.read_events(path))
    self.events = [e for e in events if e['step'] <= resume_step]
    self._workdir = workdir
    if processes.is_first():
      lines = b''.join(map(_line, self.events))
      self._file = appended_file.AppendedFile(path, lines)
      self._tensorboard = event_file.EventFile(workdir)

  def write(self, step: int, metrics: dict[str, float]) -> None:
    """Appends an event unless it was written before the run was resumed.

    Raises:
      finite.NonFiniteError: if a metric is NaN or infinite.
    """
    event = {'step': step} | metrics
    if any(e['step'] == step and set(metrics) <= set(e) for e in self.events):
      return
    line = _line(event)
    self.events.append(event)
    if processes.is_first():
      self._file.append(line)
      self._tensorboard.write_scalars(step, metrics)

  def write_picture(
    self, step: int, name: str, picture: UInt8[np.ndarray, 'h w 3']
  ) -> None:
    """Writes a picture as `NAME_STEP.png` and for TensorBoard."""
    if processes.is_first():
      files.write_png(self._workdir / f'{name}_{step:07d}.png', picture)
      self._tensorboard.write_picture(step, name, picture)

  def best(self, name: str) -> tuple[int, float] | None:
    """Returns the first step with a metric's highest value, and that value."""
    events = [e for e in self.events if name in e]
    if not events:
      return None
    event = max(events, key=lambda e: (e[name], -e['step']))
    return event['step'], event[name]


def _line(event: dict[str, float]) -> bytes:
  return (files.json_text(event, f'step {event["step"]}') + '\n').encode()


def log_progress(
  progress: loop.Progress,
  metric_log: MetricLog,
  *,
  total_steps: int,
  batch_size: int,
  skipped: int | None = None,
) -> None:
  """Logs a progress line and writes the training metrics.

  The line contains the step, loss, learning rate, speed, share of time spent
  waiting for data, and the remaining time. `skipped` is the number of
  unreadable examples so far, or None if such examples are errors.
  """
  images_per_second = batch_size / progress.seconds_per_step
  seconds_left = (total_steps - progress.step) * progress.seconds_per_step
  loss = progress.metrics.get('loss')
  _log.info(
    'step %*d/%d  %s  lr %.2e  %.0f images/s  waiting for data %.0f%%'
    '  left %s%s',
    len(str(total_steps)),
    progress.step,
    total_steps,
    f'loss {loss:.4f}' if loss is not None else 'no examples',
    progress.metrics['learning_rate'],
    images_per_second,
    100 * progress.data_wait,
    console.duration(seconds_left),
    f'  skipped {skipped}' if skipped else '',
  )
  metrics = {f'train/{k}': v for k, v in progress.metrics.items()}
  if skipped is not None:
    metrics['train/skipped'] = skipped
  metrics['perf/images_per_second'] = images_per_second
  metrics['perf/data_wait'] = progress.data_wait
  metric_log.write(progress.step, metrics)
