"""Pre-trains a hybrid of ResNet and ViT on JFT-300M (Table 3).

  python -m vit_jax.main --config=configs/hybrid.py:R50+ViT-B/16,jft300m
  python -m vit_jax.main --config=configs/hybrid.py:R50+ViT-L/16,jft300m,7

The argument is MODEL,DATA or, where the paper has two lengths,
MODEL,DATA,EPOCHS. MODEL is R50+ViT-B/32, R50+ViT-B/16, R50+ViT-L/32 or
R50+ViT-L/16; the paper trained them only on JFT-300M. Rows are in
vit_jax/recipes/table_3.py. Hardware: a TPU slice. Expected: ImageNet accuracy
after fine-tuning 84.90 (B/32), 85.58 (B/16), 85.68 (L/32), 86.60 and 87.12
(L/16, 7 and 14 epochs) per cent (Table 6).
"""

import ml_collections

from vit_jax import recipes


def get_config(
  argument: str = 'R50+ViT-B/16,jft300m',
) -> ml_collections.ConfigDict:
  """Returns the config for 'MODEL,DATA' or 'MODEL,DATA,EPOCHS'."""
  model, _, data = argument.partition(',')
  return recipes.pretraining(model, data)
