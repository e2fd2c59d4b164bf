"""Pre-trains a ResNet (BiT) on JFT-300M (Table 3).

  python -m vit_jax.main --config=configs/resnet.py:R50x1,jft300m
  python -m vit_jax.main --config=configs/resnet.py:R152x2,jft300m,7

The argument is MODEL,DATA or, where the paper has two lengths,
MODEL,DATA,EPOCHS. MODEL is R50x1, R50x2, R101x1, R152x1, R152x2 or R200x3; the
paper trained them only on JFT-300M. Rows are in vit_jax/recipes/table_3.py.
Hardware: a TPU slice. Expected: ImageNet accuracy after fine-tuning 77.54
(R50x1), 82.12 (R50x2), 80.67 (R101x1), 81.88 (R152x1), 84.97 and 85.56 (R152x2,
7 and 14 epochs), 87.22 (R200x3) per cent (Table 6).
"""

import ml_collections

from vit_jax import recipes


def get_config(argument: str = 'R50x1,jft300m') -> ml_collections.ConfigDict:
  """Returns the config for 'MODEL,DATA' or 'MODEL,DATA,EPOCHS'."""
  model, _, data = argument.partition(',')
  return recipes.pretraining(model, data)
