"""Pre-trains ViT-L/32 as Table 3 of the paper has it.

  python -m vit_jax.main --config=configs/vit_l32.py
  python -m vit_jax.main --config=configs/vit_l32.py:imagenet2012
  python -m vit_jax.main --config=configs/vit_l32.py:jft300m
  python -m vit_jax.main --config=configs/vit_l32.py:imagenet21k,30

The argument is the pre-training set, ImageNet-21k unless given, and its epochs.
Hardware: a TPU slice; Table 2 of the paper counts the cost. Expected:
ImageNet top-1 after fine-tuning at 384 px 84.37 (JFT-300M, 7 epochs), 80.99
(ImageNet-21k) and 71.16 (ImageNet) per cent (Table 5).
"""

import ml_collections

from vit_jax import recipes


def get_config(argument: str = 'imagenet21k') -> ml_collections.ConfigDict:
  """The config for a pre-training set, with epochs where Table 3 has two."""
  return recipes.pretraining('ViT-L/32', argument)
