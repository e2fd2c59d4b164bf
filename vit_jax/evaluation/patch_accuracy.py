"""Exact evaluation of masked patch prediction: every example counts once.

The corruption of an example is a function of (seed, index), and patches are
only replaced by patches of the same image. Metrics are therefore independent of
batch size and devices, and comparable between steps.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree
import numpy as np

from vit_jax.evaluation import classification
from vit_jax.models import patch_predictor
from vit_jax.training import patch_targets, randomness


def draw_corruption(
  seed: int, index: Int[Array, ' b'], num_patches: int, rate: float
) -> patch_predictor.Corruption:
  """Draws the corruption of the examples with these indices."""
  key = randomness.stream_key(seed, 'evaluated corruption')
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
  return patch_targets.draw(keys, num_patches, rate)


def make_eval_step(
  model: patch_predictor.MaskedPatchPredictor,
  target: patch_targets.Target,
  *,
  rate: float,
  seed: int,
) -> classification.EvalStep:
  """Returns a function from (params, batch) to values per image.

  The batch contains `image` and `index`. The values for the m corrupted patches
  are `loss` (b, m); `hits` (b, m, s), whether each of s colours is correct; and
  `histogram` (b, 512), the counts of the true colours.
  """

  def eval_step(params, batch):
    images = batch['image']
    grid = model.grid_shape(images.shape[1:3])
    corruption = draw_corruption(seed, batch['index'], math.prod(grid), rate)
    predictions = model.apply(
      {'params': params}, images, corruption, train=False
    )
    patches = patch_targets.corrupted_patches(images, grid, corruption)
    colours = target.true_colours(patches)
    zeros = jnp.zeros(patch_targets.NUM_COLOURS, jnp.int32)
    return {
      'loss': target.losses(predictions, patches),
      'hits': target.colours(predictions) == colours,
      'histogram': jax.vmap(lambda image: zeros.at[image].add(1))(colours),
    }

  return eval_step


def evaluate(
  eval_step: classification.EvalStep,
  params: PyTree,
  batches: classification.Batches,
  put: classification.Put,
) -> dict[str, float]:
  """Evaluates a model on a dataset; see `classification.collect`.

  Returns:
    `loss`; `accuracy` of the 3-bit colours; `baseline_accuracy`, the accuracy
    of always predicting the most frequent colour of the corrupted patches.
  """
  rows = classification.collect(eval_step, params, batches, put)
  histogram = np.sum(rows['histogram'], axis=0, dtype=np.int64)
  return {
    'loss': float(np.mean(rows['loss'], dtype=np.float64)),
    'accuracy': float(np.mean(rows['hits'], dtype=np.float64)),
    'baseline_accuracy': int(histogram.max()) / int(histogram.sum()),
  }
