"""The objective of masked patch prediction (section 4.6, Appendix B.1.2)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vit_jax.models import masked_patch
from vit_jax.training import patch_targets, randomness, steps


def objective(
  model: masked_patch.MaskedPatchPredictor,
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
    patches = patch_targets.cut(images, (rows, columns))
    values = image_sums(target, predictions, patches, corruption)
    sums = {name: jnp.sum(mask * value) for name, value in values.items()}
    return sums['loss'], {
      'loss': (sums['loss'], sums['patches']),
      'accuracy': (sums['correct'], sums['colours']),
    }

  return compute


def draw(
  keys: Key[Array, ' b'], num_patches: int, rate: float
) -> masked_patch.Corruption:
  """The corruption of a batch, each image by a key of its own."""
  return jax.vmap(lambda key: masked_patch.draw(key, num_patches, rate))(keys)


def image_sums(
  target: patch_targets.Target,
  predictions: Float[Array, 'b n o'],
  patches: Float[Array, 'b n p q 3'],
  corruption: masked_patch.Corruption,
) -> dict[str, Float[Array, ' b']]:
  """Sums over the corrupted patches of each image.

  Args:
    target: what is predicted.
    predictions: of it.
    patches: the pixels that are there, in [-1, 1].
    corruption: of the batch.

  Returns:
    `loss`; the number of `patches` it is summed over; of their `colours`; and
    of those that are predicted right, `correct`.
  """
  weights = corruption.corrupted.astype(jnp.float32)
  correct = target.colours(predictions) == target.true_colours(patches)
  return {
    'loss': jnp.sum(weights * target.losses(predictions, patches), axis=1),
    'patches': jnp.sum(weights, axis=1),
    'colours': jnp.sum(weights, axis=1) * correct.shape[2],
    'correct': jnp.sum(weights * jnp.sum(correct, axis=2), axis=1),
  }
