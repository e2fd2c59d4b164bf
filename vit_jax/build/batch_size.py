"""The number of examples of an evaluation step."""

import jax
import ml_collections

from vit_jax import config as config_lib

_CPU_BATCH_PX = 16 * 224**2


def eval_batch_size(config: ml_collections.ConfigDict) -> int:
  """Returns the number of examples per evaluation step.

  On CPUs, small batches are faster (docs/results.md, "Speed"). Unless
  `eval_batch_size` is set, a batch there has 16 images of 224x224 px or larger,
  or as many smaller ones as have no more pixels, but at most `batch_size`.
  """
  if config.eval_batch_size:
    return config.eval_batch_size
  if jax.default_backend() != 'cpu':
    return config.batch_size
  height, width = config_lib.image_size(config)
  return min(config.batch_size, max(_CPU_BATCH_PX // (height * width), 16))
