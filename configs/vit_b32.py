"""Pre-trains ViT-B/32 (Table 3).

  python -m vit_jax.main --config=configs/vit_b32.py
  python -m vit_jax.main --config=configs/vit_b32.py:imagenet2012
  python -m vit_jax.main --config=configs/vit_b32.py:jft300m

The argument is the pre-training set, ImageNet-21k by default.
Hardware: a TPU slice; Table 6 lists the compute. Expected: ImageNet accuracy
after fine-tuning at 384 px (Table 5) 80.73 per cent (JFT-300M, 7 epochs), 81.28
(ImageNet-21k) and 73.38 (ImageNet).
"""

import ml_collections

from vit_jax import recipes

# Epochs, learning rate, decay, weight decay, dropout.
ROWS = {
  'jft300m': recipes.Pretraining((7,), 8e-4, 'linear', 0.1, 0.0),
  'imagenet21k': recipes.Pretraining((90,), 1e-3, 'linear', 0.03, 0.1),
  'imagenet2012': recipes.Pretraining((300,), 3e-3, 'cosine', 0.3, 0.1),
}


def get_config(argument: str = 'imagenet21k') -> ml_collections.ConfigDict:
  """Returns the config for 'DATA' or 'DATA,EPOCHS'."""
  return recipes.pretraining('ViT-B/32', argument, ROWS)
