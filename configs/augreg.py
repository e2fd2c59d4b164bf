"""Trains ViTs and hybrids with AugReg, Steiner et al. (2021), arXiv 2106.10270.

  python -m vit_jax.main --config=configs/augreg.py:ViT-B/16,imagenet2012
  python -m vit_jax.main --config=configs/augreg.py:ViT-B/16,imagenet21k
  python -m vit_jax.main --config=configs/augreg.py:ViT-B/16,imagenet21k,medium2
  python -m vit_jax.main --config=configs/augreg.py:ViT-S/16,folder:PATH

The argument is MODEL,DATA or MODEL,DATA,LEVEL, where LEVEL is the amount of
data augmentation: none, light1, light2, medium1, medium2, strong1 or strong2.
The levels, and the default level and regularization of every model, are tables
in vit_jax/recipes/augreg.py. All runs have 300 epochs; for the paper's short
runs on ImageNet-21k, add --config.total_epochs=30. For ImageNet, the head has a
hidden layer, as in the authors' code; the paper also trains without it, with
--config.model.representation_size=0.

Hardware: a TPU slice. Expected: ImageNet accuracy (Table 3) of the authors'
best models, from ImageNet without fine-tuning at 224 px, and from ImageNet-21k
after fine-tuning at 384 px:

  model          imagenet2012   imagenet21k
  R+ViT-Ti/16    70.13          75.40
  ViT-Ti/16      72.59          78.22
  ViT-S/32       72.07          79.58
  ViT-S/16       79.00          83.73
  ViT-B/32       74.42          83.59
  R26+ViT-S/32   79.61          83.85
  ViT-B/16       79.84          85.49
  ViT-L/16       75.72          85.59
  R50+ViT-L/32   76.84          85.99

For other data, which may be folder:PATH, table:FILE or a dataset of
vit_jax/data/catalog.py, the settings are those for ImageNet, except for our
choices: 64 images per step, a learning rate of 5e-4, warm-up in the first tenth
of the run, a softmax and no hidden layer. Image size and model are set on the
command line, for example for CIFAR-10

  --config.model.name=ViT-Ti/4 --config.data.image_size=32
"""

import ml_collections

from vit_jax.recipes import augreg


def get_config(
  argument: str = 'ViT-B/16,imagenet21k',
) -> ml_collections.ConfigDict:
  """Returns the config for 'MODEL,DATA' or 'MODEL,DATA,LEVEL'."""
  return augreg.pretraining(argument)
