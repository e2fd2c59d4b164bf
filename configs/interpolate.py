"""Interpolates between two checkpoints of one shape, or averages many.

  python -m vit_jax.main --config=configs/interpolate.py:A.npz,B.npz
  python -m vit_jax.main --config=configs/interpolate.py:RUN1,RUN2,RUN3 \\
      --config.data.name=cifar10 --config.data.eval=test
  python -m vit_jax.main --config=configs/interpolate.py:A.npz,B.npz \\
      --config.interpolate.alphas=0,0.25,0.5,0.75,1 \\
      --config.data.name=cifar10 --config.data.eval=test

The argument names the checkpoints, of any supported format, separated by
commas. Without alphas their mean is written, to `mean.npz`; with alphas, for
each the weights (1 - alpha) A + alpha B, to `alpha_A.npz`: alpha 0 and 1 are A
and B bit for bit. Where `data.eval` names splits, all points are evaluated on
them and a table is printed. Hardware: any.
"""

import ml_collections

from vit_jax import config as base_config


def get_config(paths: str = 'A.npz,B.npz') -> ml_collections.ConfigDict:
  """The config for checkpoints separated by commas."""
  config = base_config.base(job='interpolate', batch_size=256)
  config.model.name = ''
  config.data.update(eval='', image_size=0)
  config.interpolate.paths = paths
  return config
