"""What masked patch prediction predicts of a patch (Appendix B.1.2).

The paper tries three targets: the mean colour of the patch in 3 bits a channel,
one of 512; the patch downsized to 4x4 such colours; and all of its pixels, by
regression. It leaves the edges of the bins open: ours are 8 equal bins from -1
to 1, of which bytes fall into the one of their upper three bits.
"""

from collections.abc import Mapping
import dataclasses
import types

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

BINS = 8  # Of a channel: 3 bits.
NUM_COLOURS = BINS**3

Shape = tuple[int, int]  # Height and width of a patch in pixels.


def patch_shape(image_size: Shape, grid: tuple[int, int]) -> Shape:
  """The height and width in pixels of the patches of a grid.

  Raises:
    ValueError: if images do not divide into so many rows and columns, as may
      happen with hybrids.
  """
  (h, w), (rows, columns) = image_size, grid
  if h % rows or w % columns:
    raise ValueError(
      f'an image of {h}x{w} pixels cannot be cut into {rows}x{columns} equal'
      ' patches, whose pixels are to be predicted; choose a height and a width'
      ' that divide by the number of patches.'
    )
  return h // rows, w // columns


def cut(
  images: Float[Array, 'b h w c'], grid: tuple[int, int]
) -> Float[Array, 'b n p q c']:
  """The pixels of each patch, row after row as the tokens are.

  Raises:
    ValueError: as for `patch_shape`.
  """
  b, h, w, c = images.shape
  rows, columns = grid
  p, q = patch_shape((h, w), grid)
  cells = images.reshape(b, rows, p, columns, q, c)
  return cells.swapaxes(2, 3).reshape(b, rows * columns, p, q, c)


def join(
  patches: Float[Array, 'b n p q c'], grid: tuple[int, int]
) -> Float[Array, 'b h w c']:
  """The inverse of `cut`."""
  b, _, p, q, c = patches.shape
  rows, columns = grid
  cells = patches.reshape(b, rows, columns, p, q, c)
  return cells.swapaxes(2, 3).reshape(b, rows * p, columns * q, c)


def downsize(
  patches: Float[Array, 'b m p q c'], side: int
) -> Float[Array, 'b m s s c']:
  """Means over side x side equal cells, which may cut through pixels."""
  p, q = patches.shape[2:4]
  return jnp.einsum(
    'sp,tq,bmpqc->bmstc', _shares(p, side), _shares(q, side), patches
  )


def _shares(length: int, side: int) -> Float[np.ndarray, 's p']:
  """What each pixel on a line of `length` adds to the mean of each cell."""
  starts = np.arange(side)[:, None] * length / side
  pixels = np.arange(length)
  ends = np.minimum(starts + length / side, pixels + 1)
  overlap = np.maximum(ends - np.maximum(starts, pixels), 0)
  return (overlap * side / length).astype(np.float32)


def quantize(colours: Float[Array, '*a 3']) -> Int[Array, '*a']:
  """The number in 0..511 of a colour in [-1, 1]: red 64, green 8, blue 1."""
  bins = jnp.floor((colours + 1) * (BINS / 2)).astype(jnp.int32)
  return jnp.clip(bins, 0, BINS - 1) @ jnp.array([BINS**2, BINS, 1])


def colour(numbers: Int[Array, '*a']) -> Float[Array, '*a 3']:
  """The middle of the bins that such a number stands for."""
  bins = jnp.stack(
    [numbers // BINS**2, numbers // BINS % BINS, numbers % BINS], axis=-1
  )
  return (bins + 0.5) * (2 / BINS) - 1


@dataclasses.dataclass(frozen=True)
class Colours:
  """3-bit colours of a patch downsized to side x side, as classes."""

  side: int

  def num_outputs(self, patch_shape: Shape) -> int:
    """Predicted numbers of a patch."""
    del patch_shape
    return self.side**2 * NUM_COLOURS

  def losses(
    self,
    predictions: Float[Array, 'b m o'],
    patches: Float[Array, 'b m p q 3'],
  ) -> Float[Array, 'b m']:
    """Cross-entropy in nats, the mean over the colours of a patch."""
    log_probabilities = jax.nn.log_softmax(self._logits(predictions))
    of_targets = jnp.take_along_axis(
      log_probabilities, self.true_colours(patches)[..., None], axis=-1
    )
    return -jnp.mean(of_targets, axis=(2, 3))

  def true_colours(
    self, patches: Float[Array, 'b m p q 3']
  ) -> Int[Array, 'b m s']:
    """The numbers of the colours that are there."""
    colours = quantize(downsize(patches, self.side))
    return colours.reshape(*colours.shape[:2], -1)

  def colours(self, predictions: Float[Array, 'b m o']) -> Int[Array, 'b m s']:
    """The numbers of the likeliest colours."""
    return jnp.argmax(self._logits(predictions), axis=-1)

  def pixels(
    self, predictions: Float[Array, 'b m o'], patch_shape: Shape
  ) -> Float[Array, 'b m p q 3']:
    """The likeliest colours as pixels of a patch."""
    cells = colour(self.colours(predictions))
    cells = cells.reshape(*cells.shape[:2], self.side, self.side, 3)
    rows, columns = (np.arange(p) * self.side // p for p in patch_shape)
    return cells[:, :, rows][:, :, :, columns]

  def _logits(self, predictions):
    return predictions.reshape(*predictions.shape[:2], -1, NUM_COLOURS)


@dataclasses.dataclass(frozen=True)
class Pixels:
  """All pixels of a patch, by regression."""

  def num_outputs(self, patch_shape: Shape) -> int:
    """Predicted numbers of a patch."""
    return patch_shape[0] * patch_shape[1] * 3

  def losses(
    self,
    predictions: Float[Array, 'b m o'],
    patches: Float[Array, 'b m p q 3'],
  ) -> Float[Array, 'b m']:
    """Squared error of values in [-1, 1], the mean over a patch."""
    errors = predictions - patches.reshape(predictions.shape)
    return jnp.mean(errors**2, axis=-1)

  def true_colours(
    self, patches: Float[Array, 'b m p q 3']
  ) -> Int[Array, 'b m 1']:
    """The number of the mean colour."""
    return quantize(jnp.mean(patches, axis=(2, 3)))[..., None]

  def colours(self, predictions: Float[Array, 'b m o']) -> Int[Array, 'b m 1']:
    """The number of the mean of the predicted pixels."""
    pixels = predictions.reshape(*predictions.shape[:2], -1, 3)
    return quantize(jnp.mean(pixels, axis=2))[..., None]

  def pixels(
    self, predictions: Float[Array, 'b m o'], patch_shape: Shape
  ) -> Float[Array, 'b m p q 3']:
    """The predicted pixels."""
    return predictions.reshape(*predictions.shape[:2], *patch_shape, 3)


Target = Colours | Pixels

TARGETS: Mapping[str, Target] = types.MappingProxyType(
  {
    'mean_colour': Colours(side=1),
    'downsized': Colours(side=4),
    'pixels': Pixels(),
  }
)
