"""Pre-trains a model with axial attention, as Appendix D.6 has it.

  python -m vit_jax.main --config=configs/axial.py:Axial-ViT-B/16,jft300m
  python -m vit_jax.main --config=configs/axial.py:AxialR50x1,jft300m

The argument is MODEL,DATA or, where the paper has two lengths,
MODEL,DATA,EPOCHS. MODEL is Axial-ViT-B/32, Axial-ViT-B/16 or AxialR50x1, or
another name with a row in Table 3 but for Axial. The paper says nothing of how
they were trained; our choice is what Table 3 says of the same model without
axial attention. Hardware: a TPU slice. Expected, of ImageNet 5-shot accuracy
(Figure 13): Axial-ViT-B/16 above ViT-B/16, that above Axial-ViT-B/32, and that
above ViT-B/32, which is much like AxialR50x1.
"""

import ml_collections

from vit_jax import recipes


def get_config(
  argument: str = 'Axial-ViT-B/16,jft300m',
) -> ml_collections.ConfigDict:
  """The config for 'MODEL,DATA' or 'MODEL,DATA,EPOCHS'."""
  model, _, data = argument.partition(',')
  config = recipes.pretraining(
    model.removeprefix('Axial').removeprefix('-'), data
  )
  config.model.update(name=model, pool='gap')
  return config
