"""The objective of masked patch prediction (section 4.6, Appendix B.1.2)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vit_jax.models import patch_predictor
from vit_jax.training import patch_targets, randomness, steps


def objective(
  model: patch_predictor.MaskedPatchPredictor,
  target: patch_targets.Target,
  *,
  rate: float,
) -> steps.Objective:
  """The loss on corrupted patches; which ones follows from the key.

  Args:
    model: predicts `target` of each patch.
    target: a value of `patch_targets.TARGETS`.
    rate: share of the patches of each image to corrupt.

  Returns:
    A function of (params, batch, key) to the loss summed over the corrupted
    patches of real images, and (sum, count) pairs of `loss`, over these
    patches, and of the `accuracy` of their 3-bit colours.
  """

  def compute(params, batch, key):
    images, mask = batch['image'], batch['mask']
    rows, columns = model.grid_shape(images.shape[1:3])
    keys = jax.random.split(
      randomness.branch(key, 'corruption'), images.shape[0]
    )
    corruption = draw(keys, rows * columns, rate)
    predictions = model.apply(
      {'params': params},
      images,
      corruption,
      train=True,
      rngs={'dropout': key},
    )
    patches = corrupted_patches(images, (rows, columns), corruption)
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
  """The corruption of a batch, each image by a key of its own."""
  return jax.vmap(lambda key: patch_predictor.draw(key, num_patches, rate))(
    keys
  )


def corrupted_patches(
  images: Float[Array, 'b h w 3'],
  grid: tuple[int, int],
  corruption: patch_predictor.Corruption,
) -> Float[Array, 'b m p q 3']:
  """The pixels of the patches to predict, in the order of the predictions."""
  patches = patch_targets.cut(images, grid)
  positions = corruption.positions[..., None, None, None]
  return jnp.take_along_axis(patches, positions, axis=1)
