"""Interpolates between two checkpoints, or averages several.

  python -m vit_jax.main --config=configs/interpolate.py:A.npz,B.npz
  python -m vit_jax.main --config=configs/interpolate.py:RUN1,RUN2,RUN3 \\
      --config.data.name=cifar10 --config.data.eval=test
  python -m vit_jax.main --config=configs/interpolate.py:A.npz,B.npz \\
      --config.interpolate.alphas=0,0.25,0.5,0.75,1 \\
      --config.data.name=cifar10 --config.data.eval=test

The argument lists checkpoints with the same shapes, in any supported format,
separated by commas. Without alphas, their mean is written to `mean.npz`; with
alphas, (1 - alpha) A + alpha B is written to `alpha_ALPHA.npz` for each, where
alphas 0 and 1 give A and B bit for bit. If `data.eval` has splits, all results
are evaluated on them and a table is printed. Hardware: any.
"""

import ml_collections

from vit_jax import config as config_lib


def get_config(paths: str = 'A.npz,B.npz') -> ml_collections.ConfigDict:
  """Returns the config for checkpoints separated by commas."""
  config = config_lib.base(job='interpolate', batch_size=256)
  config_lib.leave_to_checkpoint(config)
  config.data.eval = ''
  config_lib.set_keys(config, {'interpolate.paths': paths})
  return config
