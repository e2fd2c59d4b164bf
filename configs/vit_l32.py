"""Pre-trains ViT-L/32 (Table 3).

  python -m vit_jax.main --config=configs/vit_l32.py
  python -m vit_jax.main --config=configs/vit_l32.py:imagenet2012
  python -m vit_jax.main --config=configs/vit_l32.py:jft300m
  python -m vit_jax.main --config=configs/vit_l32.py:imagenet21k,30

The argument is the pre-training set, ImageNet-21k by default, and its epochs.
Hardware: a TPU slice; Table 6 lists the compute. Expected: ImageNet accuracy
after fine-tuning at 384 px (Table 5) 84.37 per cent (JFT-300M, 7 epochs), 80.99
(ImageNet-21k) and 71.16 (ImageNet).
"""

import ml_collections

from vit_jax import recipes

# Epochs, learning rate, decay, weight decay, dropout.
ROWS = {
  'jft300m': recipes.Pretraining((7,), 6e-4, 'linear', 0.1, 0.0),
  'imagenet21k': recipes.Pretraining((30, 90), 1e-3, 'linear', 0.03, 0.1),
  'imagenet2012': recipes.Pretraining((300,), 3e-3, 'cosine', 0.3, 0.1),
}


def get_config(argument: str = 'imagenet21k') -> ml_collections.ConfigDict:
  """Returns the config for 'DATA' or 'DATA,EPOCHS'."""
  return recipes.pretraining('ViT-L/32', argument, ROWS)
