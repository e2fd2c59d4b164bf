"""Pictures of a run's weights: filters, position embeddings, attention."""

from collections.abc import Callable, Iterator
import contextlib
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
from vit_jax.workdir import finished_run

NUM_IMAGES = 6


class Weights:
  """The model and the weights of a run."""

  def __init__(
    self, run: finished_run.FinishedRun, path: str, *, has_data: bool
  ):
    """Loads the weights.

    Args:
      run: the run.
      path: path of its weights.
      has_data: whether `data.name` is a dataset that the run used.

    Raises:
      ValueError: if the file is missing or damaged.
    """
    config = run.config.copy_and_resolve_references()
    config.init_from = path
    config.model.name = ''  # The file specifies the model.
    self._run = run
    self._has_data = has_data
    with _only_warnings('vit_jax.checkpoints'):
      self._pretrained = pretrained.load_backbone(config)

  def positions_and_filters(self) -> list[content.Part]:
    """Draws the filters, and the similarity of position embeddings if any."""
    return [content.Charts([*self._positions(), self._filters()])]

  def _filters(self) -> content.Picture:
    components, shares = filters.principal_components(
      filters.rgb_filters(self._pretrained.params)
    )
    figure = figures.filters(components, shares)
    shown = min(len(components), figures.MAX_FILTERS)
    _fit(figure, 0.85 * -(-shown // 7))
    caption = (
      f'Principal components 1 to {shown} of {len(components)} of the filters'
      ' of the first layer, and the variance that they explain (Figure 7 left)'
    )
    alt = (
      f'{caption}: {shares[:shown].sum():.0%} in total, the first'
      f' {shares[0]:.1%}. Their smoothness, 1 for constant filters and 0 for'
      f' noise, is {filters.smoothness(components[:shown]).mean():.2f}.'
    )
    return pictures.drawing(figure, alt, caption)

  def _positions(self) -> Iterator[content.Picture]:
    """Yields nothing for models without added position embeddings."""
    try:
      embeddings = position_similarity.embeddings(self._pretrained.params)
    except ValueError:
      return
    similarity = position_similarity.similarity(
      embeddings,
      self._pretrained.model.grid_shape(
        config_lib.image_size(self._pretrained.config)
      ),
    )
    figure = figures.position_similarity(similarity)
    rows, columns = similarity.shape[:2]
    _fit(figure, charts.WIDTH * 0.8 * rows / columns + 0.4)
    figure.axes[0].set_title('')
    caption = (
      'Cosine similarity of position embeddings, one map per patch (Figure 7'
      ' centre)'
    )
    means = ', '.join(
      f'{name.replace("_", " ")} {value:.2f}'
      for name, value in position_similarity.contrast(similarity).items()
    )
    alt = f'{caption}. Mean over pairs of patches: {means}.'
    yield pictures.drawing(figure, alt, caption)

  @property
  def _has_attention(self) -> bool:
    try:
      attention_maps.check_has_attention(self._pretrained.model)
    except ValueError:
      return False
    return True

  def attention(self) -> list[content.Part]:
    """Draws attention rollouts of a few images, if the model has attention."""
    if not self._has_attention:
      return []
    params = jax.device_put(self._pretrained.params)
    tiles = []
    for image, caption in self._images():
      # One at a time, to bound memory.
      summary = attention_maps.summarize(
        self._pretrained.model, params, image[None]
      )
      (shares,) = np.asarray(summary['rollouts'])
      tiles.append(_rollout(image, shares, caption))
    if not tiles:
      return []
    return [
      content.Text(
        'Images, and the parts of them that the output attends to (attention'
        ' rollout, Figure 6).'
      ),
      content.Tiles(tiles),
    ]

  def _images(self) -> Iterator[tuple[np.ndarray, str]]:
    """Yields a few preprocessed images with captions."""
    config = self._pretrained.config
    transform = build.eval_transform(config)
    if self._run.photo_predictions:
      yield from _photos(self._run, transform)
      return
    if not self._has_data:
      return
    (name, *_) = config_lib.eval_splits(config)
    source = examples.open_split(self._run, name)
    number = min(NUM_IMAGES, source.num_examples)
    rows = np.linspace(0, source.num_examples - 1, number).round().astype(int)
    images = examples.read_images(source, rows, transform)
    lines = self._run.predictions.get(name, [])
    for row, image in images.items():
      caption = source.describe(row)
      if row < len(lines) and lines[row]['example'] == caption:
        line = lines[row]
        caption = (
          f'{examples.label_text(line)}; predicted {line["predicted"]}'
          f' {line["probability"]:.2f}'
        )
      yield image, caption


@contextlib.contextmanager
def _only_warnings(name: str) -> Iterator[None]:
  """Silences a logger below the level of warnings."""
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
  for line in run.photo_predictions[:NUM_IMAGES]:
    path = epath.Path(line['example'])
    if 'top' in line and path.exists():
      caption = f'{path.name}: {examples.top_text(line, 1)}'
      yield photos.read(line['example'], transform), caption


def _rollout(image, shares, caption) -> content.Tile:
  """Draws an image beside the same image masked by its rollout."""
  pixels = figures.to_pixels(image)
  mask = rollout.mask(shares, image.shape[:2])[..., None]
  row, column = np.unravel_index(shares.argmax(), shares.shape)
  times = shares.max() / shares.mean()
  words = (
    f'Attention rollout: of {shares.shape[0]} rows and {shares.shape[1]}'
    f' columns of patches, the one in row {row + 1} and column {column + 1} has'
    f' the largest weight, {times:.1f} times the mean'
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
  """Makes a figure as wide as the charts of the page, and drops its title."""
  figure.set_size_inches(charts.WIDTH, height)
  figure.suptitle('')
