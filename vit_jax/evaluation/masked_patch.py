"""Exact evaluation of masked patch prediction: every example counts once.

What is corrupted of an example follows from (seed, index) alone, and the other
patches that some of its patches are replaced by are its own; so the metrics do
not depend on batch size or devices, and are of the same task at every step.
"""

from collections.abc import Callable, Iterable
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree
import numpy as np

from vit_jax.evaluation import classification
from vit_jax.models import patch_predictor
from vit_jax.training import masked_patch as objective
from vit_jax.training import patch_targets, randomness, steps


def corruption(
  seed: int, index: Int[Array, ' b'], num_patches: int, rate: float
) -> patch_predictor.Corruption:
  """What becomes of the patches of the examples of these indices."""
  key = randomness.stream_key(seed, 'evaluated corruption')
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
  return objective.draw(keys, num_patches, rate)


def make_eval_step(
  model: patch_predictor.MaskedPatchPredictor,
  target: patch_targets.Target,
  *,
  rate: float,
  seed: int,
) -> classification.EvalStep:
  """A function of (params, batch) to values of each image; to be jitted.

  The batch holds `image` and `index`. The values are those of the m corrupted
  patches: `loss` (b, m); `hits` (b, m, s), which of their s colours are right;
  and `histogram` (b, 512), how often each colour is among the true ones.
  """

  def eval_step(params, batch):
    images = batch['image']
    grid = model.grid_shape(images.shape[1:3])
    drawn = corruption(seed, batch['index'], math.prod(grid), rate)
    predictions = model.apply({'params': params}, images, drawn, train=False)
    patches = objective.corrupted_patches(images, grid, drawn)
    colours = target.true_colours(patches)
    return {
      'loss': target.losses(predictions, patches),
      'hits': target.colours(predictions) == colours,
      'histogram': jax.vmap(_histogram)(colours),
    }

  return eval_step


def _histogram(colours):
  """(512,) how often each colour is there."""
  return jnp.zeros(patch_targets.NUM_COLOURS, jnp.int32).at[colours].add(1)


def evaluate(
  eval_step: classification.EvalStep,
  params: PyTree,
  batches: Iterable[dict[str, np.ndarray]],
  put: Callable[[dict[str, np.ndarray]], steps.Batch],
) -> dict[str, float]:
  """Runs the model over one pass of `batches`.

  Args:
    eval_step: jitted.
    params: weights on the devices.
    batches: one pass, with `image`, `label`, `mask` and `index`.
    put: moves a batch to the devices.

  Returns:
    `loss`; `accuracy` of the 3-bit colours; `baseline_accuracy`, that of the
    colour which is commonest in what is predicted, so that no other constant
    answer has a higher one.
  """
  rows = classification.real_rows(eval_step, params, batches, put)
  histogram = np.sum(rows['histogram'], axis=0, dtype=np.int64)
  return {
    'loss': float(np.mean(rows['loss'], dtype=np.float64)),
    'accuracy': float(np.mean(rows['hits'], dtype=np.float64)),
    'baseline_accuracy': int(histogram.max()) / int(histogram.sum()),
  }
