"""Accuracy by class, confusions, mistakes, and classified photos."""

import collections
from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

from etils import epath
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.data import decode, photos, pipeline
from vit_jax.data.source import Source
from vit_jax.page import charts, content, pictures
from vit_jax.workdir import files, finished_run, predictions

_MAX_MATRIX_CLASSES = 40
_MAX_ROWS = 200
_MAX_MISTAKES = 12
_MAX_PHOTOS = 24
_MAX_PAIRS = 12


def classes(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns metrics by class and confusions, for every split."""
  if not _comparable(run):
    return []
  accuracy = run.results['class_accuracy']
  average_precision = run.results.get('class_average_precision', {})
  return [
    part
    for split, lines in run.predictions.items()
    for part in by_class(
      split, lines, accuracy[split], average_precision.get(split)
    )
  ]


def mistakes(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns the most confident mistakes of every split, with their images.

  Raises:
    ValueError: if the data is no longer available.
  """
  if not _comparable(run):
    return []
  parts, listed = [], {}
  for split, lines in run.predictions.items():
    wrong = wrong_lines(lines)
    parts.append(
      content.Text(
        f'Misclassified images of {split}: {len(wrong)} of {len(lines)}.'
      )
    )
    if wrong := wrong[:_MAX_MISTAKES]:
      source = open_split(run, split, listed=listed)
      images = pipeline.read_images(source, wrong, _to_rgb(run))
      tiles = [
        _mistake(lines[k], images[k])
        for k in wrong
        # The data may have changed since; never show the wrong image.
        if k in images and source.describe(k) == lines[k]['example']
      ]
      missing = content.Text('Their images are no longer in the data.')
      parts.append(content.Tiles(tiles) if tiles else missing)
  return parts


def _comparable(run) -> bool:
  """Returns whether labels and predictions are names of the same classes."""
  c = run.config.evaluate
  return bool(run.predictions) and (
    not c.objectnet_mappings or c.objectnet_restricted
  )


def is_right(line: predictions.Line) -> bool:
  """Returns whether the predicted class is the label, or one of the labels."""
  label = line['label']
  return line['predicted'] in (label if isinstance(label, list) else [label])


def wrong_lines(lines: Sequence[predictions.Line]) -> list[int]:
  """Returns the indices of wrong predictions, the most confident first."""
  wrong = [
    k for k, line in enumerate(lines) if line['label'] and not is_right(line)
  ]
  return sorted(wrong, key=lambda k: -lines[k]['probability'])


def by_class(
  split: str,
  lines: Sequence[predictions.Line],
  accuracy: Mapping[str, float | None],
  average_precision: Mapping[str, float | None] | None = None,
) -> list[content.Part]:
  """Returns the metrics of each class, and which classes are confused.

  `accuracy` has the classes in their order, with None for those without images.
  So does `average_precision`, if it is measured.
  """
  if average_precision:
    known = {k: v for k, v in accuracy.items() if v is not None}
    column = ('accuracy', {k: charts.number(v) for k, v in known.items()})
    return [
      _class_table(split, average_precision, column, metric='average precision')
    ]
  if any(isinstance(line['label'], list) for line in lines):
    # Confusion is not defined for several labels per image.
    return [_class_table(split, accuracy)]
  pairs = collections.Counter((x['label'], x['predicted']) for x in lines)
  images = collections.Counter(line['label'] for line in lines)
  wrong = [(a, b, n) for (a, b), n in pairs.most_common() if a != b]
  most_often = {a: f'{b} ({n})' for a, b, n in reversed(wrong)}
  return [
    _class_table(
      split,
      accuracy,
      ('images', {name: str(n) for name, n in images.items()}),
      ('most often mistaken for', most_often),
    ),
    content.Charts([_matrix(split, pairs, list(accuracy))]),
    content.Table(
      ('label', 'predicted', 'count'),
      [(a, b, str(n)) for a, b, n in wrong[:_MAX_ROWS]],
      shown=10,
      folded='less frequent confusions',
    ),
  ]


def _class_table(split, values, *columns, metric='accuracy') -> content.Table:
  """Returns a table of classes, those with the lowest values first."""
  known = [item for item in values.items() if item[1] is not None]
  rows = [
    (name, content.Bar(share), *(texts.get(name, '') for _, texts in columns))
    for name, share in sorted(known, key=lambda item: item[1])
  ]
  return content.Table(
    (f'class of {split}', metric, *(heading for heading, _ in columns)),
    rows[:_MAX_ROWS],
    shown=25,
    folded=f'classes with a higher {metric}',
  )


def _matrix(split, pairs, names) -> content.Picture:
  """Draws all classes, or those that are confused most often."""
  title = f'Confusion matrix of {split}'
  if len(names) > _MAX_MATRIX_CLASSES:
    errors = collections.Counter()
    for (label, predicted), number in pairs.items():
      if label != predicted:
        errors[label] += number
        errors[predicted] += number
    most = {name for name, _ in errors.most_common(_MAX_MATRIX_CLASSES)}
    title += f', the {len(most)} of {len(names)} classes most often confused'
    names = [name for name in names if name in most]
  counts = np.array([[pairs[a, b] for b in names] for a in names], np.int64)
  return charts.confusion(title, counts, names)


def _mistake(line, image) -> content.Tile:
  caption = (
    f'{label_text(line)}, predicted {line["predicted"]}'
    f' (probability {line["probability"]:.2f})'
  )
  alt = f'Image {epath.Path(line["example"]).name} of class {caption}'
  return content.Tile([pictures.photo(image, alt)], caption)


def label_text(line: predictions.Line) -> str:
  """Returns the label of an example, or its labels."""
  label = line['label']
  return ', '.join(label) if isinstance(label, list) else label


def similar_images(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns the most similar pairs of images, by cosine of their features.

  Raises:
    ValueError: if the data is no longer available.
  """
  parts, listed = [], {}

  @functools.cache
  def open_named(split):
    if split == 'train' and run.config.features.train:
      return build.open_train(run.config, by_all=False, listed=listed)
    return open_split(run, split, listed=listed)

  for split, pairs in run.results['pairs'].items():
    pairs = [
      ({'split': split, **pair}, pair['neighbour'], pair['similarity'])
      for pair in pairs[:_MAX_PAIRS]
    ]
    shown = {}
    for name in {side['split'] for pair in pairs for side in pair[:2]}:
      source = open_named(name)
      sides = [s for pair in pairs for s in pair[:2] if s['split'] == name]
      # The data may have changed since; never show the wrong image.
      rows = {
        side['index']
        for side in sides
        if side['index'] < source.num_examples
        and source.describe(side['index']) == side['example']
      }
      images = pipeline.read_images(source, rows, _to_rgb(run))
      shown |= {(name, k): image for k, image in images.items()}
    tiles = [
      _pair(
        [(side, shown[side['split'], side['index']]) for side in pair[:2]],
        pair[2],
      )
      for pair in pairs
      if all((side['split'], side['index']) in shown for side in pair[:2])
    ]
    missing = content.Text('Their images are no longer in the data.')
    parts += [
      content.Text(f'Images of {split} that are most similar to others:'),
      content.Tiles(tiles) if tiles else missing,
    ]
  return parts


def _pair(sides, similarity) -> content.Tile:
  names = [
    f'{side["example"]} ({side["split"]}, {label_text(side)})'
    for side, _ in sides
  ]
  return content.Tile(
    [
      pictures.photo(image, f'Image {name}')
      for name, (_, image) in zip(names, sides, strict=True)
    ],
    f'{similarity:.4f}: {" and ".join(names)}',
  )


def photo_predictions(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns the classified image files, with the most likely classes."""
  lines = run.photo_predictions
  tiles = []
  for line in lines[:_MAX_PHOTOS]:
    path = epath.Path(line['example'])
    if 'top' in line and path.exists():
      top = top_text(line)
      alt = f'Photo {path.name}; predicted: {top}'
      picture = pictures.photo(photos.read(line['example'], _to_rgb(run)), alt)
      tiles.append(content.Tile([picture], f'{path.name}: {top}'))
  parts = [content.Tiles(tiles)] if tiles else []
  if len(lines) > _MAX_PHOTOS:
    parts.append(
      content.Text(
        f'These are the first of {len(lines)} images; see'
        f' {files.PHOTO_PREDICTIONS} for all of them.'
      )
    )
  unreadable = [(x['example'], x['error']) for x in lines if 'error' in x]
  if unreadable:
    head = ('unreadable file', 'reason')
    parts.append(content.Table(head, unreadable, numbers=False))
  return parts


def top_text(line: Mapping, count: int = 3) -> str:
  """Returns the most likely classes of a photo with their probabilities."""
  return ', '.join(
    f'{top["class"]} {top["probability"]:.2f}' for top in line['top'][:count]
  )


def _to_rgb(run: finished_run.FinishedRun) -> Callable:
  """Returns `decode.to_rgb` with the limit of the run."""
  return functools.partial(decode.to_rgb, max_pixels=run.config.data.max_pixels)


def open_split(
  run: finished_run.FinishedRun, name: str, **options: Any
) -> Source:
  """Opens an evaluation split by its name in metrics.

  Only process 0 writes pages. `options` are those of `registry.open_source`.

  Raises:
    ValueError: if the data is no longer available.
  """
  split = config_lib.eval_splits(run.config)[name]
  return build.open_split(
    run.config, run.config.data.name, split, by_all=False, **options
  )
