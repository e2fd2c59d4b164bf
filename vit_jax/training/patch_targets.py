"""Masked patch prediction: its targets and its objective (Appendix B.1.2).

The paper compares three targets: the patch's mean colour in 3 bits per channel,
a class out of 512; the patch downsized to 4x4 such colours; and all pixels of
the patch, by regression. It does not specify the edges of the colour bins. Here
they are 8 equal bins on [-1, 1], so that a byte's bin is its upper three bits.
"""

from collections.abc import Mapping
import dataclasses
import math
import types

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
import numpy as np

from vit_jax.models import patch_predictor
from vit_jax.training import randomness, steps

BINS = 8  # Per channel: 3 bits.
NUM_COLOURS = BINS**3

Shape = tuple[int, int]  # Height and width in pixels.


def patch_shape(image_size: Shape, grid: tuple[int, int]) -> Shape:
  """Returns the height and width of a patch in pixels.

  Raises:
    ValueError: if the grid does not divide the image into equal patches, which
      can happen with hybrids.
  """
  (h, w), (rows, columns) = image_size, grid
  if h % rows or w % columns:
    raise ValueError(
      f'an image of {h}x{w} pixels cannot be cut into {rows}x{columns} equal'
      ' patches, whose pixels are the prediction target; choose a height and'
      ' width that are multiples of the number of patches.'
    )
  return h // rows, w // columns


def cut(
  images: Float[Array, 'b h w c'], grid: tuple[int, int]
) -> Float[Array, 'b n p q c']:
  """Returns the pixels of each patch in row-major order, the order of tokens.

  Raises:
    ValueError: see `patch_shape`.
  """
  b, h, w, c = images.shape
  rows, columns = grid
  p, q = patch_shape((h, w), grid)
  cells = images.reshape(b, rows, p, columns, q, c)
  return cells.swapaxes(2, 3).reshape(b, rows * columns, p, q, c)


def join(
  patches: Float[Array, 'b n p q c'], grid: tuple[int, int]
) -> Float[Array, 'b h w c']:
  """Assembles images from patches; the inverse of `cut`."""
  b, _, p, q, c = patches.shape
  rows, columns = grid
  cells = patches.reshape(b, rows, columns, p, q, c)
  return cells.swapaxes(2, 3).reshape(b, rows * p, columns * q, c)


def downsize(
  patches: Float[Array, 'b m p q c'], side: int
) -> Float[Array, 'b m s s c']:
  """Averages over side x side equal cells, whose edges may split pixels."""
  p, q = patches.shape[2:4]
  return jnp.einsum(
    'sp,tq,bmpqc->bmstc', _shares(p, side), _shares(q, side), patches
  )


def _shares(length: int, side: int) -> Float[np.ndarray, 's p']:
  """Returns the weight of each of `length` pixels in the mean of each cell."""
  starts = np.arange(side)[:, None] * length / side
  pixels = np.arange(length)
  ends = np.minimum(starts + length / side, pixels + 1)
  overlap = np.maximum(ends - np.maximum(starts, pixels), 0)
  return (overlap * side / length).astype(np.float32)


def quantize(colours: Float[Array, '*a 3']) -> Int[Array, '*a']:
  """Returns the bin of each colour, with the index 64 red + 8 green + blue."""
  bins = jnp.floor((colours + 1) * (BINS / 2)).astype(jnp.int32)
  return jnp.clip(bins, 0, BINS - 1) @ jnp.array([BINS**2, BINS, 1])


def colour(indices: Int[Array, '*a']) -> Float[Array, '*a 3']:
  """Returns the colours at the centers of the bins."""
  bins = jnp.stack(
    [indices // BINS**2, indices // BINS % BINS, indices % BINS], axis=-1
  )
  return (bins + 0.5) * (2 / BINS) - 1


@dataclasses.dataclass(frozen=True)
class Colours:
  """Classification of the 3-bit colours of a patch downsized to side x side."""

  side: int

  def num_outputs(self, patch_shape: Shape) -> int:
    """Returns the number of model outputs per patch."""
    del patch_shape
    return self.side**2 * NUM_COLOURS

  def losses(
    self,
    predictions: Float[Array, 'b m o'],
    patches: Float[Array, 'b m p q 3'],
  ) -> Float[Array, 'b m']:
    """Returns the cross-entropy in nats, averaged over a patch's colours."""
    log_probabilities = jax.nn.log_softmax(self._logits(predictions))
    of_targets = jnp.take_along_axis(
      log_probabilities, self.true_colours(patches)[..., None], axis=-1
    )
    return -jnp.mean(of_targets, axis=(2, 3))

  def true_colours(
    self, patches: Float[Array, 'b m p q 3']
  ) -> Int[Array, 'b m s']:
    """Returns the colour indices of the patches."""
    colours = quantize(downsize(patches, self.side))
    return colours.reshape(*colours.shape[:2], -1)

  def colours(self, predictions: Float[Array, 'b m o']) -> Int[Array, 'b m s']:
    """Returns the most probable colour indices."""
    return jnp.argmax(self._logits(predictions), axis=-1)

  def pixels(
    self, predictions: Float[Array, 'b m o'], patch_shape: Shape
  ) -> Float[Array, 'b m p q 3']:
    """Returns the most probable colours, enlarged to the size of a patch."""
    cells = colour(self.colours(predictions))
    cells = cells.reshape(*cells.shape[:2], self.side, self.side, 3)
    rows, columns = (np.arange(p) * self.side // p for p in patch_shape)
    return cells[:, :, rows][:, :, :, columns]

  def _logits(self, predictions):
    return predictions.reshape(*predictions.shape[:2], -1, NUM_COLOURS)


@dataclasses.dataclass(frozen=True)
class Pixels:
  """Regression of all pixels of a patch."""

  def num_outputs(self, patch_shape: Shape) -> int:
    """Returns the number of model outputs per patch."""
    return patch_shape[0] * patch_shape[1] * 3

  def losses(
    self,
    predictions: Float[Array, 'b m o'],
    patches: Float[Array, 'b m p q 3'],
  ) -> Float[Array, 'b m']:
    """Returns the mean squared error of a patch's values in [-1, 1]."""
    errors = predictions - patches.reshape(predictions.shape)
    return jnp.mean(errors**2, axis=-1)

  def true_colours(
    self, patches: Float[Array, 'b m p q 3']
  ) -> Int[Array, 'b m 1']:
    """Returns the index of the mean colour."""
    return quantize(jnp.mean(patches, axis=(2, 3)))[..., None]

  def colours(self, predictions: Float[Array, 'b m o']) -> Int[Array, 'b m 1']:
    """Returns the index of the mean predicted colour."""
    pixels = predictions.reshape(*predictions.shape[:2], -1, 3)
    return quantize(jnp.mean(pixels, axis=2))[..., None]

  def pixels(
    self, predictions: Float[Array, 'b m o'], patch_shape: Shape
  ) -> Float[Array, 'b m p q 3']:
    """Returns the predicted pixels."""
    return predictions.reshape(*predictions.shape[:2], *patch_shape, 3)


Target = Colours | Pixels

TARGETS: Mapping[str, Target] = types.MappingProxyType(
  {
    'mean_colour': Colours(side=1),
    'downsized': Colours(side=4),
    'pixels': Pixels(),
  }
)


def objective(
  model: patch_predictor.MaskedPatchPredictor, target: Target, *, rate: float
) -> steps.Objective:
  """Returns the objective of masked patch prediction (section 4.6).

  Args:
    model: predicts `target` for each corrupted patch.
    target: a value of TARGETS.
    rate: share of each image's patches to corrupt.

  Returns:
    A function of (params, batch, key) that returns the loss summed over the
    corrupted patches of real images, and (sum, count) pairs of `loss`, per
    corrupted patch, and `accuracy`, per 3-bit colour. The key determines which
    patches are corrupted.
  """

  def compute(params, batch, key):
    images, mask = batch['image'], batch['mask']
    grid = model.grid_shape(images.shape[1:3])
    keys = jax.random.split(
      randomness.branch(key, 'corruption'), images.shape[0]
    )
    corruption = draw(keys, math.prod(grid), rate)
    predictions = model.apply(
      {'params': params},
      images,
      corruption,
      train=True,
      rngs={'dropout': key},
    )
    patches = corrupted_patches(images, grid, corruption)
    losses = target.losses(predictions, patches)
    hits = target.colours(predictions) == target.true_colours(patches)
    count = jnp.sum(mask)
    loss_sum = jnp.sum(mask[:, None] * losses)
    return loss_sum, {
      'loss': (loss_sum, count * losses.shape[1]),
      'accuracy': (
        jnp.sum(mask[:, None, None] * hits),
        count * math.prod(hits.shape[1:]),
      ),
    }

  return compute


def draw(
  keys: Key[Array, ' b'], num_patches: int, rate: float
) -> patch_predictor.Corruption:
  """Draws the corruption of a batch, with one key per image."""
  return jax.vmap(lambda key: patch_predictor.draw(key, num_patches, rate))(
    keys
  )


def corrupted_patches(
  images: Float[Array, 'b h w 3'],
  grid: tuple[int, int],
  corruption: patch_predictor.Corruption,
) -> Float[Array, 'b m p q 3']:
  """Returns the original pixels of the corrupted patches."""
  patches = cut(images, grid)
  positions = corruption.positions[..., None, None, None]
  return jnp.take_along_axis(patches, positions, axis=1)
