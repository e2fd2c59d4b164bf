"""A small ViT on scikit-learn's digits: trains on any machine in minutes.

python -m vit_jax.main --config=configs/digits.py
"""

import ml_collections

from vit_jax import config as base_config


def get_config() -> ml_collections.ConfigDict:
  """4 layers, 64 wide, 2x2 patches of 8x8 images; Adam, 2,000 steps."""
  config = base_config.base(
    job='pretrain',
    batch_size=128,
    total_steps=2000,
    log_every=100,
    eval_every=500,
    checkpoint_every=500,
  )
  config.model.update(name='ViT-Ti/2', depth=4, width=64, mlp_dim=256, heads=4)
  config.data.update(
    name='digits',
    image_size=8,
    crop='resize',
    flip=False,
    rotate_degrees=15.0,
    scale=0.15,
    shift=0.1,
  )
  config.optim.update(lr=3e-3, schedule='cosine', warmup_steps=100)
  config.optim.update(weight_decay=0.1, clip_norm=1.0, ema_decay=0.9999)
  return config
