"""Pre-trains ViT-H/14 (Table 3).

  python -m vit_jax.main --config=configs/vit_h14.py
  python -m vit_jax.main --config=configs/vit_h14.py:imagenet2012
  python -m vit_jax.main --config=configs/vit_h14.py:jft300m
  python -m vit_jax.main --config=configs/vit_h14.py:imagenet21k,30

The argument is the pre-training set, ImageNet-21k by default, and its epochs.
Hardware: a TPU slice; Table 2 lists the cost. Expected: ImageNet accuracy after
fine-tuning at 384 px (Table 5) 88.04 per cent (JFT-300M, 14 epochs) and 85.13
(ImageNet-21k). Table 3 has no row for ImageNet-21k; ours is that of ViT-L.
"""

import ml_collections

from vit_jax import recipes

# Epochs, learning rate, decay, weight decay, dropout.
ROWS = {
  'jft300m': recipes.Pretraining((14,), 3e-4, 'linear', 0.1, 0.0),
  'imagenet21k': recipes.Pretraining((30, 90), 1e-3, 'linear', 0.03, 0.1),
  'imagenet2012': recipes.Pretraining((300,), 3e-3, 'cosine', 0.3, 0.1),
}


def get_config(argument: str = 'imagenet21k') -> ml_collections.ConfigDict:
  """Returns the config for 'DATA' or 'DATA,EPOCHS'."""
  return recipes.pretraining('ViT-H/14', argument, ROWS)
