"""Classifies image files and folders of image files."""

from collections.abc import Iterator, Sequence
from concurrent import futures
import logging
import time

from etils import epath
import ml_collections
import numpy as np

from vit_jax import config as config_lib
from vit_jax import printing
from vit_jax.build import loaded_model, pretrained
from vit_jax.data import listing, photos
from vit_jax.distributed import processes
from vit_jax.workdir import appended_file, claim, console, files, results

_log = logging.getLogger(__name__)

_THREADS = 8
_SECONDS_BETWEEN_WRITES = 10  # On gs://, each takes a while.


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Prints the most likely classes of each image in `predict.paths`.

  They are also written to `predictions.jsonl`, for multi-label models with all
  labels above `label_threshold`. The line of a file that cannot be read has the
  reason instead, and a warning is logged.

  Raises:
    ValueError: if a path does not exist, no image can be read, or the
      checkpoint and the class names do not match.
  """
  paths = photos.find(config.predict.paths)
  if not paths:
    raise ValueError(
      'predict.paths is empty; give image files or folders, separated by'
      ' commas.'
    )
  batch_size = min(config.batch_size, len(paths))
  model = loaded_model.LoadedModel(
    pretrained.load_classifier(config), batch_sizes=[batch_size]
  )
  claim.restart(config_lib.flatten(config), workdir)
  begin = time.perf_counter()
  unreadable = []
  path = workdir / files.PHOTO_PREDICTIONS
  lines = None
  if processes.is_first():
    lines = appended_file.AppendedFile(
      path, seconds_between_writes=_SECONDS_BETWEEN_WRITES
    )
  for line in _lines(model, paths):
    text = files.json_text(line, line['example'], ensure_ascii=False)
    if lines:
      lines.append(f'{text}\n'.encode())
    console.show(_text(line))
    if 'error' in line:
      unreadable.append(line['example'])
  if len(unreadable) == len(paths):
    raise ValueError(
      f'no file can be read as an image; the first of {len(paths)} is'
      f' {printing.printable(unreadable[0])}; see {path} for the reasons.'
    )
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    metrics={},
    init_from=config.init_from,
    num_images=len(paths) - len(unreadable),
    num_unreadable=len(unreadable),
  )
  if unreadable:
    _log.warning(
      '%d of %d files could not be read: %s',
      len(unreadable), len(paths), printing.printable(', '.join(unreadable)),
    )  # fmt: skip
  _log.info('wrote %s; predictions: %d', path, len(paths) - len(unreadable))


def _lines(
  model: loaded_model.LoadedModel, paths: Sequence[str]
) -> Iterator[dict]:
  """Yields a line of `predictions.jsonl` for each path, in order."""
  top = model.config.predict.top

  def load(path):
    """Returns the preprocessed image, or why it cannot be read."""
    try:
      return photos.read(path, model.transform)
    except ValueError as error:
      return str(error)

  with futures.ThreadPoolExecutor(_THREADS) as pool:
    for start in range(0, len(paths), model.batch_size):
      batch = paths[start : start + model.batch_size]
      loaded = list(pool.map(load, batch))
      images = [x for x in loaded if isinstance(x, np.ndarray)]
      predictions = iter(model.predict(images, top=top) if images else ())
      for path, image_or_error in zip(batch, loaded, strict=True):
        line = {'example': listing.as_text(path)}
        if isinstance(image_or_error, str):
          yield line | {'error': image_or_error}
          continue
        prediction = next(predictions)
        line['top'] = _named(prediction.top)
        if prediction.labels is not None:
          line['predicted_labels'] = _named(prediction.labels)
        yield line


def _named(pairs: Sequence[tuple[str, float]]) -> list[dict]:
  return [
    {'class': name, 'probability': round(probability, 4)}
    for name, probability in pairs
  ]


def _text(line: dict) -> str:
  if 'error' in line:
    text = f'{line["example"]}: cannot be read: {line["error"]}'
  else:
    named = (f'{x["class"]} {x["probability"]:.4f}' for x in line['top'])
    text = f'{line["example"]}: {", ".join(named)}'
    if 'predicted_labels' in line:
      labels = ', '.join(x['class'] for x in line['predicted_labels'])
      text += f'; labels: {labels or "none"}'
  return printing.printable(text)
