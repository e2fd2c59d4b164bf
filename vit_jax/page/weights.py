"""Pictures of a run's weights: filters, position embeddings, attention."""

from collections.abc import Iterator
import logging

from etils import epath
import jax
from jaxtyping import PyTree
from matplotlib.figure import Figure
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import pretrained
from vit_jax.data import photos, pipeline
from vit_jax.inspection import (
  attention_maps,
  figures,
  filters,
  position_similarity,
  rollout,
)
from vit_jax.page import charts, content, examples, pictures
from vit_jax.workdir import finished_run

_MAX_IMAGES = 6


def load(
  run: finished_run.FinishedRun, path: str
) -> pretrained.PretrainedModel:
  """Loads weights of a run, and rebuilds their model.

  Raises:
    ValueError: if the file is missing or damaged.
  """
  config = run.config.copy_and_resolve_references()
  config.init_from = path
  config.model.name = ''  # The file specifies the model.
  log = logging.getLogger('vit_jax.checkpoints')
  level = log.level
  log.setLevel(logging.WARNING)
  try:
    return pretrained.load_backbone(config)
  finally:
    log.setLevel(level)


def positions_and_filters(
  pretrained_model: pretrained.PretrainedModel,
) -> list[content.Part]:
  """Draws the filters, and the similarity of position embeddings if any."""
  drawn = [_filters(pretrained_model.params)]
  try:
    embeddings = position_similarity.embeddings(pretrained_model.params)
  except ValueError:  # The model adds no position embeddings.
    return [content.Charts(drawn)]
  similarity = position_similarity.similarity(embeddings, pretrained_model.grid)
  return [content.Charts([_positions(similarity), *drawn])]


def _filters(params: PyTree) -> content.Picture:
  components, shares = filters.principal_components(filters.rgb_filters(params))
  figure = figures.filters(components, shares)
  shown = min(len(components), figures.MAX_FILTERS)
  _fit(figure, 0.85 * -(-shown // 7))
  caption = (
    f'Principal components 1 to {shown} of {len(components)} of the filters of'
    ' the first layer, and the variance that they explain (Figure 7, left)'
  )
  alt = (
    f'{caption}: {shares[:shown].sum():.0%} in total, the first'
    f' {shares[0]:.1%}. Their smoothness, 1 for constant filters and 0 for'
    f' noise, is {filters.smoothness(components[:shown]).mean():.2f}.'
  )
  return pictures.drawing(figure, alt, caption)


def _positions(similarity: np.ndarray) -> content.Picture:
  figure = figures.position_similarity(similarity)
  rows, columns = similarity.shape[:2]
  _fit(figure, charts.WIDTH * 0.8 * rows / columns + 0.4)
  figure.axes[0].set_title('')
  caption = (
    'Cosine similarity of position embeddings, one map per patch (Figure 7,'
    ' center)'
  )
  means = ', '.join(
    f'{name.replace("_", " ")} {value:.2f}'
    for name, value in position_similarity.contrast(similarity).items()
  )
  alt = f'{caption}. Mean over pairs of patches: {means}.'
  return pictures.drawing(figure, alt, caption)


def attention(
  pretrained_model: pretrained.PretrainedModel,
  run: finished_run.FinishedRun,
  *,
  has_data: bool,
) -> list[content.Part]:
  """Draws attention rollouts of a few images, if the model has attention.

  The images are the photos of the run or, if it used `data.name` (`has_data`),
  images of the first evaluation split.
  """
  model = pretrained_model.model
  try:
    attention_maps.check_has_attention(model)
  except ValueError:
    return []
  params = jax.device_put(pretrained_model.params)
  tiles = []
  for image, caption in _images(pretrained_model.config, run, has_data):
    # One at a time, to bound memory.
    summary = attention_maps.summarize(model, params, image[None])
    (shares,) = np.asarray(summary['rollouts'])
    tiles.append(_rollout(image, shares, caption))
  text = (
    'Images, the parts of them that the output attends to (attention rollout,'
    ' Figure 6), and heat maps of this rollout.'
  )
  return [content.Text(text), content.Tiles(tiles)] if tiles else []


def _images(config, run, has_data) -> Iterator[tuple[np.ndarray, str]]:
  """Yields a few preprocessed images with captions."""
  transform = build.eval_transform(config)
  for line in run.photo_predictions[:_MAX_IMAGES]:
    path = epath.Path(line['example'])
    if 'top' in line and path.exists():
      caption = f'{path.name}: {examples.top_text(line, 1)}'
      yield photos.read(line['example'], transform), caption
  splits = config_lib.eval_splits(config)
  if run.photo_predictions or not (has_data and splits):
    return
  name = next(iter(splits))
  source = examples.open_split(run, name)
  number = min(_MAX_IMAGES, source.num_examples)
  rows = np.linspace(0, source.num_examples - 1, number).round().astype(int)
  lines = run.predictions.get(name, [])
  images = pipeline.read_images(
    source, rows, transform, skip_corrupt=config.data.skip_corrupt
  )
  for row, image in images.items():
    caption = source.describe(row)
    if row < len(lines) and lines[row]['example'] == caption:
      line = lines[row]
      caption = (
        f'{examples.label_text(line)}; predicted {line["predicted"]}'
        f' {line["probability"]:.2f}'
      )
    yield image, caption


def _rollout(image, shares, caption) -> content.Tile:
  """Draws an image, the image multiplied by its rollout, and a heat map."""
  pixels = figures.to_pixels(image)
  mask = rollout.mask(shares, image.shape[:2])[..., None]
  row, column = np.unravel_index(shares.argmax(), shares.shape)
  times = shares.max() / shares.mean()
  words = (
    f'Attention rollout: of {shares.shape[0]} rows and {shares.shape[1]}'
    f' columns of patches, the one in row {row + 1} and column {column + 1} has'
    f' the largest weight, {times:.1f} times the mean'
  )
  drawn = {
    'Image': pixels,
    f'{words}. Image': pixels * mask,
    'Heat map of this rollout. Image': rollout.heat_map(pixels, shares),
  }
  return content.Tile(
    [
      pictures.photo((255 * x).round().astype('u1'), f'{name}: {caption}')
      for name, x in drawn.items()
    ],
    caption,
  )


def _fit(figure: Figure, height: float) -> None:
  """Makes a figure as wide as the charts of the page, and drops its title."""
  figure.set_size_inches(charts.WIDTH, height)
  figure.suptitle('')
