"""Examples with their pictures: mistakes, and what was said of photos."""

from collections.abc import Callable, Iterable
import json

from etils import epath
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.data import decode, photos, pipeline, registry
from vit_jax.page import confusions, content, pictures
from vit_jax.workdir import files, finished_run

_MOST_MISTAKES = 12
_MOST_PHOTOS = 24


def classes(run: finished_run.FinishedRun) -> list[content.Part]:
  """Accuracy by class, and what is taken for what, of every split."""
  if not _comparable(run):
    return []
  parts = []
  for split, lines in run.predictions.items():
    accuracy = run.results['class_accuracy'][split]
    parts += confusions.by_class(split, lines, accuracy)
  return parts


def mistakes(run: finished_run.FinishedRun) -> list[content.Part]:
  """The most confident mistakes of every split, with their images.

  Raises:
    ValueError: if the data is not there any more.
  """
  if not _comparable(run):
    return []
  parts = []
  for split, lines in run.predictions.items():
    wrong = confusions.mistakes(lines)[:_MOST_MISTAKES]
    source = open_split(run, split) if wrong else None
    images = read_images(source, wrong, decode.to_rgb) if wrong else {}
    tiles = [
      _mistake(lines[k], images[k])
      for k in wrong
      # Images of other data than was scored would be worse than none.
      if k in images and source.describe(k) == lines[k]['example']
    ]
    parts.append(content.Text(_count(split, lines)))
    if tiles:
      parts.append(content.Tiles(tiles))
    elif wrong:
      parts.append(content.Text('Their images are not in the data any more.'))
  return parts


def _comparable(run) -> bool:
  """Whether labels and predictions are names of the same classes."""
  c = run.config.evaluate
  return bool(run.predictions) and (
    not c.objectnet_mappings or c.objectnet_restricted
  )


def _count(split, lines) -> str:
  wrong = len(confusions.mistakes(lines))
  return f'{wrong} of {len(lines)} images of {split} are mistaken.'


def _mistake(line, image) -> content.Tile:
  label = line['label']
  label = ', '.join(label) if isinstance(label, list) else label
  caption = (
    f'{label}, taken for {line["predicted"]}'
    f' (probability {line["probability"]:.2f})'
  )
  name = epath.Path(line['example']).name
  alt = f'Image {name} of class {caption}'
  return content.Tile([pictures.photo(image, alt)], caption)


def photo_predictions(run: finished_run.FinishedRun) -> list[content.Part]:
  """Photos, and the classes named for them."""
  text = (run.workdir / files.PHOTO_PREDICTIONS).read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  tiles = []
  for line in lines[:_MOST_PHOTOS]:
    path = epath.Path(line['example'])
    if 'top' in line and path.exists():
      named = ', '.join(
        f'{top["class"]} {top["probability"]:.2f}' for top in line['top'][:3]
      )
      alt = f'Photo {path.name}; predicted: {named}'
      picture = pictures.photo(photos.decode_upright(path.read_bytes()), alt)
      tiles.append(content.Tile([picture], f'{path.name}: {named}'))
  parts = [content.Tiles(tiles)] if tiles else []
  if len(lines) > _MOST_PHOTOS:
    parts.append(
      content.Text(
        f'These are the first of {len(lines)} images;'
        f' {files.PHOTO_PREDICTIONS} has all.'
      )
    )
  unreadable = [(x['example'], x['error']) for x in lines if 'error' in x]
  if unreadable:
    head = ('cannot be read', 'reason')
    parts.append(content.Table(head, unreadable, numbers=False))
  return parts


def open_split(run: finished_run.FinishedRun, name: str) -> registry.Source:
  """The data of a split by its name in metrics.

  Raises:
    ValueError: if it is not there any more.
  """
  split = config_lib.eval_splits(run.config)[name]
  return build.open_split(run.config, run.config.data.name, split)


def read_images(
  source: registry.Source, indices: Iterable[int], transform: Callable
) -> dict[int, np.ndarray]:
  """Images by index; the others are passed over without decoding them."""
  batches = pipeline.eval_batches(
    source, transform, batch_size=1, only=np.array(sorted(indices))
  )
  return {int(b['index'][0]): b['image'][0] for b in batches}
