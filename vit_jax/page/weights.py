"""What a run's weights look like: filters, positions, attention."""

from collections.abc import Callable, Iterator
import contextlib
import json
import logging

from etils import epath
import jax
from matplotlib.figure import Figure
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import pretrained
from vit_jax.data import photos
from vit_jax.inspection import (
  attention_maps,
  figures,
  filters,
  position_similarity,
  rollout,
)
from vit_jax.page import charts, content, examples, pictures
from vit_jax.workdir import files, finished_run

NUM_PICTURED = 6


class Weights:
  """The weights of a run, with its model; read once."""

  def __init__(self, run: finished_run.FinishedRun):
    """Reads them.

    Raises:
      ValueError: if the file is missing or damaged.
    """
    config = run.config.copy_and_resolve_references()
    config.init_from = run.weights
    config.model.name = ''  # They tell it.
    self._run = run
    with _quietly('vit_jax.checkpoints'):
      self._trained = pretrained.load_backbone(config)

  def drawn(self) -> list[content.Part]:
    """Similarity of positions, if the model has any, and filters."""
    return [content.Charts([*self._positions(), self._filters()])]

  def _filters(self) -> content.Picture:
    components, shares = filters.principal_components(
      filters.rgb_filters(self._trained.params)
    )
    figure = figures.filters(components, shares)
    shown = min(len(components), figures.MAX_FILTERS)
    _fit(figure, 0.85 * -(-shown // 7))
    caption = (
      f'Principal components 1 to {shown} of {len(components)} of the filters'
      ' that images meet first, and the variance they explain (Figure 7 left)'
    )
    alt = (
      f'{caption}: {shares[:shown].sum():.0%} in all, the first'
      f' {shares[0]:.1%}. Their smoothness, 1 for constant filters and 0 for'
      f' noise, is {filters.smoothness(components[:shown]).mean():.2f}.'
    )
    return pictures.drawing(figure, alt, caption)

  def _positions(self) -> Iterator[content.Picture]:
    """Nothing of models that add no position embeddings."""
    try:
      embeddings = position_similarity.embeddings(self._trained.params)
    except ValueError:
      return
    similarity = position_similarity.similarity(
      embeddings,
      self._trained.model.grid_shape(
        config_lib.image_size(self._trained.config)
      ),
    )
    figure = figures.position_similarity(similarity)
    rows, columns = similarity.shape[:2]
    _fit(figure, charts.WIDTH * 0.8 * rows / columns + 0.4)
    figure.axes[0].set_title('')
    caption = (
      'Cosine of the position embeddings of patches, a map for each (Figure 7'
      ' centre)'
    )
    means = ', '.join(
      f'{name.replace("_", " ")} {value:.2f}'
      for name, value in position_similarity.contrast(similarity).items()
    )
    alt = f'{caption}. Mean cosine of pairs of patches: {means}.'
    yield pictures.drawing(figure, alt, caption)

  @property
  def _has_attention(self) -> bool:
    try:
      attention_maps.check_has_attention(self._trained.model)
    except ValueError:
      return False
    return True

  def attention(self) -> list[content.Part]:
    """Rollouts over a few images; nothing of models without attention."""
    if not self._has_attention:
      return []
    params = jax.device_put(self._trained.params)
    tiles = []
    for image, caption in self._images():
      # One at a time, whatever the size of model and image.
      found = attention_maps.summarize(
        self._trained.model, params, image[None]
      )
      (shares,) = np.asarray(found['rollouts'])
      tiles.append(_rollout(image, shares, caption))
    if not tiles:
      return []
    return [
      content.Text(
        'Images, and which parts of them reach the output (attention rollout,'
        ' Figure 6).'
      ),
      content.Tiles(tiles),
    ]

  def _images(self) -> Iterator[tuple[np.ndarray, str]]:
    """A few images as the model sees them, with captions."""
    config = self._trained.config
    transform = build.eval_transform(config)
    if self._run.job == 'predict':
      yield from _photos(self._run, transform)
      return
    if self._run.job not in finished_run.OF_DATA:
      return
    (name, *_) = config_lib.eval_splits(config)
    source = examples.open_split(self._run, name)
    number = min(NUM_PICTURED, source.num_examples)
    rows = np.linspace(0, source.num_examples - 1, number).round().astype(int)
    images = examples.read_images(source, rows, transform)
    lines = self._run.predictions.get(name, [])
    for row, image in images.items():
      caption = source.describe(row)
      if row < len(lines) and lines[row]['example'] == caption:
        caption = _said(lines[row])
      yield image, caption


@contextlib.contextmanager
def _quietly(name: str) -> Iterator[None]:
  """Lets a part of the program log warnings alone."""
  log = logging.getLogger(name)
  level = log.level
  log.setLevel(logging.WARNING)
  try:
    yield
  finally:
    log.setLevel(level)


def _photos(
  run: finished_run.FinishedRun, transform: Callable
) -> Iterator[tuple[np.ndarray, str]]:
  lines = (run.workdir / files.PHOTO_PREDICTIONS).read_text().splitlines()
  for line in map(json.loads, lines[:NUM_PICTURED]):
    if 'top' in line and epath.Path(line['example']).exists():
      top = line['top'][0]
      said = f'{top["class"]} {top["probability"]:.2f}'
      name = epath.Path(line['example']).name
      yield photos.read(line['example'], transform), f'{name}: {said}'


def _said(line) -> str:
  label = line['label']
  label = ', '.join(label) if isinstance(label, list) else label
  return f'{label}; predicted {line["predicted"]} {line["probability"]:.2f}'


def _rollout(image, shares, caption) -> content.Tile:
  """An image beside what is looked at."""
  pixels = figures.to_pixels(image)
  mask = rollout.mask(shares, image.shape[:2])[..., None]
  row, column = np.unravel_index(shares.argmax(), shares.shape)
  times = shares.max() / shares.mean()
  words = (
    f'Attention rollout: of {shares.shape[0]} rows and {shares.shape[1]}'
    f' columns of patches, that in row {row + 1} and column {column + 1} weighs'
    f' most, {times:.1f} times the mean'
  )
  return content.Tile(
    [
      pictures.photo(_to_bytes(pixels), f'Image: {caption}'),
      pictures.photo(_to_bytes(pixels * mask), f'{words}. Image: {caption}'),
    ],
    caption,
  )


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
  return np.round(255 * pixels).astype(np.uint8)


def _fit(figure: Figure, height: float) -> None:
  """Makes a figure as wide as the page's charts, without its title."""
  figure.set_size_inches(charts.WIDTH, height)
  figure.suptitle('')
