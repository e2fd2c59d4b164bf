"""Pre-trains a model with axial attention (Appendix D.6).

  python -m vit_jax.main --config=configs/axial.py:Axial-ViT-B/16,jft300m
  python -m vit_jax.main --config=configs/axial.py:AxialR50x1,jft300m

The argument is MODEL,DATA or, where Table 3 has two lengths, MODEL,DATA,EPOCHS.
MODEL is Axial-ViT-B/32, Axial-ViT-B/16 or AxialR50x1, or another ViT or ResNet
of Table 3 with that prefix. The paper does not state how they were trained; our
choice is the row of the same model without axial attention, but for ViTs the
learning rate 3e-4, at which average pooling works (D.3). Hardware: a TPU slice.
Expected ImageNet 5-shot accuracy (Figure 13): Axial-ViT-B/16 above ViT-B/16,
above Axial-ViT-B/32, above ViT-B/32, which is close to AxialR50x1.
"""

import ml_collections

from vit_jax import recipes


def get_config(
  argument: str = 'Axial-ViT-B/16,jft300m',
) -> ml_collections.ConfigDict:
  """Returns the config for 'MODEL,DATA' or 'MODEL,DATA,EPOCHS'."""
  model, _, data = argument.partition(',')
  full_attention = model.removeprefix('Axial').removeprefix('-')
  config = recipes.pretraining(full_attention, data)
  config.model.update(name=model, pool='gap')
  if 'ViT' in model:
    config.optim.lr = 3e-4
  return config
