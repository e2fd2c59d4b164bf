"""The metric history of a run: `metrics.jsonl` and TensorBoard events.

`metrics.jsonl` has one line per event, with `step` and flat names such as
`train/loss`. Names that start with `perf/` depend on the machine and the
moment; all others depend only on the config. Every process calls these
functions; only process 0 writes.
"""

import json
import logging

from etils import epath, epy
import numpy as np
from PIL import Image

from vit_jax.distributed import processes
from vit_jax.training import loop
from vit_jax.workdir import console, files

with epy.lazy_imports():  # It imports TensorFlow.
  from clu import metric_writers

_log = logging.getLogger(__name__)


class MetricLog:
  """`metrics.jsonl` and TensorBoard events of one run.

  A run that was interrupted has events after the checkpoint it goes on from;
  they are dropped, since they will come again.
  """

  def __init__(self, workdir: epath.Path, *, resume_step: int):
    self._path = workdir / 'metrics.jsonl'
    self.events = [
      event
      for event in processes.from_first(self._read)
      if event['step'] <= resume_step
    ]
    self._behind = False  # Whether the file lacks events.
    self._tensorboard = None
    if processes.is_first():
      self._rewrite()
      self._tensorboard = metric_writers.AsyncWriter(
        metric_writers.SummaryWriter(str(workdir))
      )

  def _read(self) -> list[dict[str, float]]:
    if not self._path.exists():
      return []
    lines = self._path.read_text().splitlines(keepends=True)
    # A line without an end was cut short when the run was killed.
    return [json.loads(line) for line in lines if line.endswith('\n')]

  def _rewrite(self) -> None:
    lines = [json.dumps(event) + '\n' for event in self.events]
    files.write_text(self._path, ''.join(lines))

  def write(self, step: int, metrics: dict[str, float]) -> None:
    """Appends an event, unless an earlier start of this run has done so."""
    event = {'step': step} | metrics
    if any(e['step'] == step and set(metrics) <= set(e) for e in self.events):
      return
    self.events.append(event)
    if not processes.is_first():
      return
    try:
      if self._behind:
        self._rewrite()
      else:
        with self._path.open('a') as f:
          f.write(json.dumps(event) + '\n')
      self._behind = False
    except OSError as error:  # Such as a full disk; there may be room later.
      _log.warning(
        '%s lacks the metrics of step %d: %s', self._path, step, error
      )
      self._behind = True
    self._tensorboard.write_scalars(step, metrics)

  def write_picture(self, step: int, name: str, picture: np.ndarray) -> None:
    """Writes `NAME_STEP.png`, and the same for TensorBoard.

    Args:
      step: reached.
      name: of the picture.
      picture: (h, w, 3) uint8.
    """
    if not processes.is_first():
      return
    path = self._path.with_name(f'{name}_{step:07d}.png')
    partial = path.with_name(path.name + '.partial')
    with partial.open('wb') as file:
      Image.fromarray(picture).save(file, format='png')
    partial.replace(path)
    self._tensorboard.write_images(step, {name: picture[None]})

  def best(self, name: str) -> tuple[int, float] | None:
    """The first step with the highest value of a metric, and that value."""
    events = [e for e in self.events if name in e]
    if not events:
      return None
    event = max(events, key=lambda e: (e[name], -e['step']))
    return event['step'], event[name]

  def __enter__(self) -> 'MetricLog':
    return self

  def __exit__(self, *unused) -> None:
    if self._tensorboard:
      self._tensorboard.close()


def log_progress(
  progress: loop.Progress,
  metric_log: MetricLog,
  *,
  total_steps: int,
  batch_size: int,
  skipped: int | None = None,
) -> None:
  """Logs step, loss, rate, speed, waiting, time left; notes all metrics.

  Args:
    progress: what the loop tells.
    metric_log: notes it.
    total_steps: of the run.
    batch_size: in examples.
    skipped: examples so far that could not be read; None if none may be.
  """
  images_per_second = batch_size / progress.seconds_per_step
  left = (total_steps - progress.step) * progress.seconds_per_step
  _log.info(
    'step %*d/%d  loss %.4f  lr %.2e  %.0f images/s  waiting for data %.0f%%'
    '  left %s%s',
    len(str(total_steps)),
    progress.step,
    total_steps,
    progress.metrics['loss'],
    progress.metrics['learning_rate'],
    images_per_second,
    100 * progress.data_wait,
    console.duration(left),
    f'  skipped {skipped}' if skipped else '',
  )
  metrics = {f'train/{k}': v for k, v in progress.metrics.items()}
  if skipped is not None:
    metrics['train/skipped'] = skipped
  metrics['perf/images_per_second'] = images_per_second
  metrics['perf/data_wait'] = progress.data_wait
  metric_log.write(progress.step, metrics)
