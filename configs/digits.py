"""Trains a small ViT on the digits of scikit-learn, on any machine.

  python -m vit_jax.main --config=configs/digits.py

Hardware: any; two CPU cores take a few minutes. Expected: test accuracy of at
least 98.5 per cent.
"""

import ml_collections

from vit_jax import config as config_lib


def get_config() -> ml_collections.ConfigDict:
  """Returns the config: 4 layers of width 64, patches of 2x2, 2,000 steps."""
  config = config_lib.base(
    job='pretrain',
    batch_size=128,
    total_steps=2000,
    log_every=100,
    eval_every=500,
    checkpoint_every=500,
  )
  config.model.update(name='ViT-Ti/2', depth=4, width=64, mlp_dim=256, heads=4)
  config.data.update(name='digits', image_size=8, crop='resize', flip=False)
  config.data.update(rotate_degrees=15.0, scale=0.15, shift=0.1)
  config.optim.update(name='adam', lr=3e-3, weight_decay=0.1, clip_norm=1.0)
  config.optim.update(schedule='cosine', warmup_steps=100, ema_decay=0.9999)
  return config
