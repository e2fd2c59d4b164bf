"""Figures of a trained model, as in the paper.

Drawing functions return a Matplotlib figure, without using a display. `save`
writes it to a file; notebooks show it after `%matplotlib inline`.
"""

from collections.abc import Sequence
import io

from etils import epath
from jaxtyping import Float
from matplotlib.figure import Figure
import numpy as np

from vit_jax.checkpoints import atomic
from vit_jax.inspection import labels, rollout

MAX_FILTERS = 28  # As in the paper.
_GAP = 0.15  # Between tiles of a mosaic, relative to their side.


def filters(
  components: Float[np.ndarray, 'm h w 3'], shares: Float[np.ndarray, ' m']
) -> Figure:
  """Draws the first principal components of RGB filters, as in Figure 7, left.

  Grey is zero; each component is scaled by its largest weight. The arguments
  are the results of `filters.principal_components`.
  """
  number = min(len(components), MAX_FILTERS)
  columns = min(number, 7)
  rows = -(-number // columns)
  size = 1.1 * columns + 0.3, 1.3 * rows + 0.7
  figure, panels = _panels(rows, columns, size, dpi=120)
  for k in range(number):
    axes, component = panels.flat[k], components[k]
    axes.imshow(0.5 + 0.5 * component / np.abs(component).max())
    axes.set_title(f'{shares[k]:.1%}', fontsize=8)
  figure.suptitle(
    f'Filters: principal components 1 to {number} of {len(components)},'
    ' with explained variance',
    fontsize=10,
  )
  return figure


def position_similarity(
  similarity: Float[np.ndarray, 'rows columns rows columns'],
) -> Figure:
  """Draws the similarity of position embeddings, as in Figures 7 and 10.

  One tile per patch: the map of similarities between its embedding and all
  others, from `position_similarity.similarity`. The colour scale is symmetric
  and ends at the largest absolute similarity of two different patches.
  """
  rows, columns = similarity.shape[:2]
  figure = Figure(figsize=(8, 8 * rows / columns), dpi=120)
  axes = figure.add_subplot()
  flat = similarity.reshape(rows * columns, -1)
  others = flat[~np.eye(len(flat), dtype=bool)]
  limit = np.abs(others).max() if others.size else 1.0
  image = _draw_mosaic(axes, similarity, cmap='RdBu_r', vmin=-limit, vmax=limit)
  axes.set_xlabel('patch column')
  axes.set_ylabel('patch row')
  axes.set_title('Cosine similarity of position embeddings', fontsize=10)
  # Inset axes have the height of the mosaic for any aspect ratio.
  figure.colorbar(image, cax=axes.inset_axes([1.03, 0, 0.03, 1]))
  return figure


def attention_distance(
  distances: Float[np.ndarray, 'l heads'], *, uniform: float | None = None
) -> Figure:
  """Draws mean attention distance by depth, as in Figure 7, right.

  Distances are means over images, in px. `uniform`, the distance for uniform
  attention, is drawn as a line if given.
  """
  depth = np.arange(1, len(distances) + 1)
  figure = Figure(figsize=(6, 4.2), dpi=150, layout='constrained')
  axes = figure.add_subplot()
  for k, head in enumerate(distances.T):
    axes.scatter(depth, head, s=22, alpha=0.8, color=f'C{k % 10}', linewidths=0)
  axes.plot(
    depth, distances.mean(axis=1), color='black', lw=1, label='mean of heads'
  )
  if uniform is not None:
    axes.axhline(uniform, color='gray', ls=':', lw=1, label='uniform attention')
  axes.set_ylim(0, 1.1 * max(distances.max(), uniform or 0))
  axes.set_xlabel('layer')
  axes.set_ylabel('mean attention distance [px]')
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.grid(alpha=0.3)
  axes.legend(loc='lower right', fontsize=8)
  axes.set_title(
    f'One dot per head, {distances.shape[1]} heads per layer', fontsize=10
  )
  return figure


def rollouts(
  images: Float[np.ndarray, 'b h w 3'],
  shares: Float[np.ndarray, 'b rows columns'],
  captions: Sequence[str],
) -> Figure:
  """Draws images next to their attention rollout, as in Figures 6 and 14.

  Each rollout is multiplied with its image, as in the paper, and drawn as a
  heat map. Images are in [-1, 1], and shares are the rollouts of
  `attention_maps.summarize`.
  """
  across = min(len(images), 3)
  down = -(-len(images) // across)
  height, width = images.shape[1:3]
  size = 3 * across * 1.3, down * (1.3 * height / width + 0.25) + 0.3
  figure, panels = _panels(down, 3 * across, size, dpi=150)
  for (left, middle, right), image, share, caption in zip(
    panels.reshape(-1, 3), images, shares, captions, strict=False
  ):
    pixels = to_pixels(image)
    left.imshow(pixels)
    middle.imshow(pixels * rollout.mask(share, (height, width))[..., None])
    right.imshow(rollout.heat_map(pixels, share))
    left.set_title(_shorten(caption), fontsize=7)
  figure.suptitle(
    'Image, image multiplied by its attention rollout, and heat map',
    fontsize=10,
  )
  return figure


def attention_maps(
  image: Float[np.ndarray, 'h w 3'],
  maps: Float[np.ndarray, 'l heads rows columns'],
  caption: str,
) -> Figure:
  """Draws the attention map of every head, one row per layer.

  The image is in [-1, 1]. Maps are those of `attention_maps.summarize`; each is
  scaled by its largest weight.
  """
  depth, heads, rows, columns = maps.shape
  side = 0.55  # Width of a map, in inches.
  tall, wide = side * depth * rows / columns, side * heads
  photo = 1.8
  figure = Figure(
    figsize=(photo + wide + 0.8, max(tall + 0.8, photo + 0.6)),
    dpi=150,
    layout='constrained',
  )
  left, right = figure.subplots(1, 2, width_ratios=(photo, wide))
  left.imshow(to_pixels(image))
  left.set_title(_shorten(caption), fontsize=8)
  left.set_axis_off()
  largest = maps.max(axis=(-2, -1), keepdims=True)
  scaled = maps / np.maximum(largest, np.finfo(np.float32).tiny)
  _draw_mosaic(right, scaled, cmap='magma', vmin=0, vmax=1)
  right.set_xlabel('head')
  right.set_ylabel('layer')
  right.set_title('attention weights by head', fontsize=8)
  return figure


def save(figure: Figure, path: epath.Path) -> None:
  """Writes a PNG file atomically.

  Characters that no installed font has appear as escape sequences.
  """
  picture = io.BytesIO()

  def draw():
    picture.seek(0)
    picture.truncate()
    figure.savefig(picture, format='png', bbox_inches='tight')

  labels.render(
    figure, draw, lambda missing: labels.use_other_fonts(figure, missing)
  )
  atomic.write_bytes(path, picture.getvalue())


def to_pixels(image: Float[np.ndarray, 'h w 3']) -> Float[np.ndarray, 'h w 3']:
  """Converts an image from [-1, 1] to [0, 1]."""
  return np.clip((np.asarray(image, np.float32) + 1) / 2, 0, 1)


def _panels(rows, columns, size, dpi):
  """Returns a figure, sized in inches, and its axes (rows, columns), hidden."""
  figure = Figure(figsize=size, dpi=dpi, layout='constrained')
  panels = figure.subplots(rows, columns, squeeze=False)
  for axes in panels.flat:
    axes.set_axis_off()
  return figure, panels


def _draw_mosaic(axes, tiles, **options):
  """Draws maps (i, j, rows, columns) as tiles, with i and j counted from 1."""
  down, across, rows, columns = tiles.shape
  # A whole number of cells, so that small maps have no seams.
  gap = max(1, round(_GAP * max(rows, columns)))
  padded = np.pad(
    np.asarray(tiles, np.float64),
    ((0, 0), (0, 0), (0, gap), (0, gap)),
    constant_values=np.nan,
  )
  joined = padded.swapaxes(1, 2).reshape(
    down * (rows + gap), across * (columns + gap)
  )[:-gap, :-gap]
  image = axes.imshow(joined, interpolation='nearest', **options)
  for axis, number, side in (
    (axes.yaxis, down, rows),
    (axes.xaxis, across, columns),
  ):
    # At most 16 labels, so that they stay legible.
    shown = np.arange(0, number, -(-number // 16))
    axis.set_ticks(shown * (side + gap) + (side - 1) / 2, shown + 1)
  axes.tick_params(length=0, labelsize=8)
  axes.spines[:].set_visible(False)
  return image


def _shorten(caption, length=24):
  if len(caption) > length:
    caption = '…' + caption[1 - length :]
  return labels.plain(caption)
