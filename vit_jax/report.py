"""What a run leaves to read: log lines, metrics, results.

A work directory holds `config.json`; `metrics.jsonl`, a line an event, with
`step` and flat names such as `train/loss` (names that start with `perf/`
depend on the machine and the moment, all others on the config alone);
TensorBoard events; and, once the run is finished, `results.json`. Of several
processes all call these functions, and process 0 alone writes.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import json
import logging
import time
from typing import Any

from clu import metric_writers
from etils import epath
import jax
import numpy as np
from PIL import Image

from vit_jax.distributed import processes
from vit_jax.evaluation import classification
from vit_jax.training import loop

_log = logging.getLogger(__name__)


RESULTS = 'results.json'


def write_text(path: epath.Path, text: str) -> None:
  """Writes beside the file, then renames: it is whole or not there."""
  if processes.is_first():
    partial = path.with_name(path.name + '.partial')
    partial.write_text(text)
    partial.replace(path)


def write_json(path: epath.Path, content: Any) -> None:
  """The same for what JSON can hold."""
  write_text(path, json.dumps(content, indent=2) + '\n')


def show(text: str) -> None:
  """Prints, once."""
  if processes.is_first():
    print(text, flush=True)


@contextlib.contextmanager
def phase(what: str) -> Iterator[None]:
  """Logs that a slow phase begins, and how long it took."""
  _log.info('%s ...', what)
  begin = time.perf_counter()
  yield
  _log.info('%s took %.1f s', what, time.perf_counter() - begin)


def duration(seconds: float) -> str:
  """Such as 45s, 3m20s, 5h07m, 2d03h."""
  seconds = round(seconds)
  units = [(86400, 'd', 3600, 'h'), (3600, 'h', 60, 'm'), (60, 'm', 1, 's')]
  for size, name, part_size, part_name in units:
    if seconds >= size:
      part = seconds % size // part_size
      return f'{seconds // size}{name}{part:02d}{part_name}'
  return f'{seconds}s'


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
    write_text(self._path, ''.join(lines))

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
    duration(left),
    f'  skipped {skipped}' if skipped else '',
  )
  metrics = {f'train/{k}': v for k, v in progress.metrics.items()}
  if skipped is not None:
    metrics['train/skipped'] = skipped
  metrics['perf/images_per_second'] = images_per_second
  metrics['perf/data_wait'] = progress.data_wait
  metric_log.write(progress.step, metrics)


def write_predictions(
  path: epath.Path,
  predictions: classification.Predictions,
  class_names: Sequence[str],
  describe: Callable[[int], str],
  label_names: Sequence[str] | None = None,
) -> None:
  """A JSON line an example: what it is, its label, what the model says.

  Args:
    path: of the file.
    predictions: of a split.
    class_names: of the classes that the model chooses among.
    describe: from an index to what a person can find the example by.
    label_names: of the labels, where they are no such classes.
  """
  label_names = label_names or class_names

  def named(label):
    if label.ndim == 0:
      return label_names[label]
    return [label_names[k] for k in label.nonzero()[0]]

  p = predictions
  lines = [
    json.dumps(
      {
        'example': describe(int(p.index[i])),
        'label': named(p.label[i]),
        'predicted': class_names[p.predicted[i]],
        'probability': round(float(p.probability[i]), 4),
      }
    )
    for i in range(len(p.index))
  ]
  write_text(path, '\n'.join(lines) + '\n')
  _log.info('%d predictions, by class name, in %s', len(lines), path)


def table(rows: Sequence[Sequence[str]]) -> str:
  """Lines of aligned columns; all but the first column to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = []
  for first, *others in rows:
    cells = [first.ljust(widths[0])]
    cells += [c.rjust(w) for c, w in zip(others, widths[1:], strict=True)]
    lines.append('  '.join(cells).rstrip())
  return '\n'.join(lines)


def device_use(seconds: float) -> dict[str, Any]:
  """Device kind and count, and what `seconds` of them cost in core-days."""
  count = jax.device_count()
  return {
    'device_kind': jax.devices()[0].device_kind,
    'device_count': count,
    'core_days': seconds * count / 86400,
  }


class Profiler:
  """Records a profiler trace of some steps into the workdir."""

  def __init__(self, workdir: epath.Path, steps: tuple[int, int] | None):
    """Takes the first and last step to record, counted from 0; None: none."""
    self._folder = workdir / 'profile'
    self._steps = steps
    self._recording = False

  def before_step(self, step: int) -> None:
    """Starts or ends the recording where it is due."""
    if self._steps is None:
      return
    first, last = self._steps
    if first <= step <= last and not self._recording:
      jax.profiler.start_trace(str(self._folder))
      self._recording = True
    elif step > last:
      self._stop()

  def _stop(self) -> None:
    if self._recording:
      jax.profiler.stop_trace()
      self._recording = False
      _log.info('profiler trace in %s', self._folder)

  def __enter__(self) -> 'Profiler':
    return self

  def __exit__(self, *unused) -> None:
    self._stop()
