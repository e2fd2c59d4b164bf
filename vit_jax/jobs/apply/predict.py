"""Classifies image files and folders of image files."""

from collections.abc import Iterator, Sequence
from concurrent import futures
import logging
import time

from etils import epath
import jax
import ml_collections
import numpy as np

from vit_jax import build, printing
from vit_jax import config as config_lib
from vit_jax.build import pretrained
from vit_jax.data import class_names, listing, photos
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import processes
from vit_jax.evaluation import classification
from vit_jax.workdir import appended_file, claim, console, files, results
from vit_jax.workdir import predictions as predictions_lib

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
  model = pretrained.load_classifier(config)
  names = model.class_names
  if config.predict.class_names:
    names = class_names.read(config.predict.class_names, 'predict.class_names')
  if len(names) != model.num_classes:
    raise ValueError(
      f'{len(names)} class names in'
      f' {config.predict.class_names or config.init_from}, but the model has'
      f' {model.num_classes} classes; set predict.class_names to a file with'
      ' one name per class.'
    )
  if names != model.class_names and set(names) == set(model.class_names):
    raise ValueError(
      f'{config.predict.class_names} lists the classes of {config.init_from} in'
      ' another order; list them in the order of the labels, as the checkpoint'
      ' does, or leave predict.class_names empty.'
    )
  mesh = mesh_lib.create(**config.mesh)
  predictor = _Predictor(model, mesh)
  batch_size = mesh_lib.round_up(min(config.batch_size, len(paths)), mesh)
  claim.restart(config_lib.flatten(config), workdir)
  begin = time.perf_counter()
  unreadable = []
  path = workdir / files.PHOTO_PREDICTIONS
  lines = None
  if processes.is_first():
    lines = appended_file.AppendedFile(
      path, seconds_between_writes=_SECONDS_BETWEEN_WRITES
    )
  for line in predictor.predict(paths, names, batch_size):
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


class _Predictor:
  """A compiled model, and the preprocessing of its images."""

  def __init__(
    self, model: pretrained.PretrainedModel, mesh: jax.sharding.Mesh
  ):
    self._mesh = mesh
    self._threshold = model.config.label_threshold
    self._transform = build.eval_transform(model.config)
    self._params = mesh_lib.put(model.params, mesh_lib.replicated(mesh))

    loss = model.config.loss

    def step(params, images):
      logits, _ = model.model.apply({'params': params}, images, train=False)
      outputs = classification.top_classes(
        logits, loss=loss, count=model.config.predict.top
      )
      if model.multi_label and loss == 'sigmoid':
        outputs['logits'] = logits
      return outputs

    self._step = jax.jit(step)

  def predict(
    self, paths: Sequence[str], names: Sequence[str], batch_size: int
  ) -> Iterator[dict]:
    """Yields a line of `predictions.jsonl` for each path, in order."""
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        loaded = list(pool.map(self._load, batch))
        images = [x for x in loaded if isinstance(x, np.ndarray)]
        rows = iter(self._rows(images, batch_size) if images else ())
        for path, image_or_error in zip(batch, loaded, strict=True):
          if isinstance(image_or_error, str):
            yield {'example': listing.as_text(path), 'error': image_or_error}
          else:
            line = self._line(next(rows), names)
            yield {'example': listing.as_text(path), **line}

  def _load(self, path: str) -> np.ndarray | str:
    """Returns the preprocessed image, or why it cannot be read."""
    try:
      return photos.read(path, self._transform)
    except ValueError as error:
      return str(error)

  def _line(self, row: dict[str, np.ndarray], names: Sequence[str]) -> dict:
    """Returns the predictions for an image from the outputs of the step."""
    top = zip(row['top_classes'], row['top_probabilities'], strict=True)
    line = {
      'top': [
        {'class': names[k], 'probability': round(float(p), 4)} for k, p in top
      ]
    }
    if 'logits' in row:
      line['predicted_labels'] = predictions_lib.labels_above(
        self._threshold, row['logits'], names
      )
    return line

  def _rows(self, images: list[np.ndarray], batch_size: int) -> list[dict]:
    """Returns the outputs of the step for each image."""
    batch = np.zeros((batch_size, *images[0].shape), np.float32)
    batch[: len(images)] = images
    # Every process has read all images, and puts its share on its devices.
    share = mesh_lib.input_share(self._mesh)
    batch = np.split(batch, share['process_count'])[share['process_index']]
    put = mesh_lib.put_batch({'image': batch}, self._mesh)
    out = processes.fetch(self._step(self._params, put['image']))
    return [
      {name: values[i] for name, values in out.items()}
      for i in range(len(images))
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
