"""Base recipes and points for the studies in `configs/`.

The studies of the paper train on JFT-300M. There are small studies for a folder
of images or the built-in digits: 400 steps at 32 px with three seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from vit_jax import config as config_lib
from vit_jax.recipes.table_3 import pretraining as pretraining_of_table_3

JFT = 'jft300m'
# The transfer datasets of Figure 5 and Tables 5 to 7.
DOWNSTREAM = (
  'imagenet2012',
  'cifar10',
  'cifar100',
  'oxford_iiit_pet',
  'oxford_flowers102',
)

Setting = Mapping[str, Any]  # Values by key, and 'family' for a point.


def is_small(data: str) -> bool:
  """Returns whether studies on a dataset are small."""
  return data == 'digits' or data.startswith(('folder:', 'table:'))


def pretraining(model: str, data: str) -> ml_collections.ConfigDict:
  """Returns the recipe of Table 3 (7 epochs on JFT-300M), or a small one.

  `data` is a pre-training set of Table 3, own images ('folder:PATH',
  'table:FILE') or 'digits'.
  """
  if is_small(data):
    config = small(data)
    if model.startswith('ViT'):
      config.update_from_flattened_dict(vit('ViT-Ti/4', 4, 96))
    return config
  return pretraining_of_table_3(model, argument(data))


def argument(data: str) -> str:
  """Returns the argument of `recipes.pretraining` for a pre-training set."""
  return f'{JFT},7' if data == JFT else data


def small(data: str) -> ml_collections.ConfigDict:
  """Returns the recipe of small studies: 400 steps of 64 images at 32 px."""
  config = config_lib.base(
    batch_size=64, total_steps=400, log_every=100, checkpoint_every=0
  )
  config.model.name = 'ViT-Ti/4'
  config.data.update(name=data, image_size=32, crop_area=0.3)
  if data == 'digits':
    config.data.update(crop='resize', flip=False)
  config.optim.update(name='adam', lr=1e-3, weight_decay=0.1, clip_norm=1.0)
  config.optim.update(schedule='cosine', warmup_steps=-1)
  return config


def vit(name: str, depth: int, width: int) -> Setting:
  """Returns the keys of a small ViT with heads of size 32 and narrow MLPs."""
  return {
    'model.name': name,
    'model.depth': depth,
    'model.width': width,
    'model.mlp_dim': 2 * width,
    'model.heads': width // 32,
  }


def resnet(*stage_depths: int) -> Setting:
  """Returns the keys of a small ResNet, with a higher learning rate."""
  return {
    'model.name': 'R50x1',
    'model.stage_depths': stage_depths,
    'model.width_factor': 0.5,
    'optim.lr': 3e-3,
  }


def hybrid(*stage_depths: int, depth: int, width: int) -> Setting:
  """Returns the keys of a small hybrid with 1x1 patches of its feature map."""
  return vit('R50+ViT-Ti/32', depth, width) | {
    'model.stage_depths': stage_depths,
    'model.width_factor': 0.5,
  }


def changes(
  config: ml_collections.ConfigDict,
  model: str,
  argument: str,
  keep: Sequence[str] = (),
) -> Setting:
  """Returns the keys in which another recipe differs from that of `config`.

  Args:
    config: a recipe.
    model: the model of the other recipe.
    argument: the argument of `recipes.pretraining` for it.
    keep: keys to leave out.
  """
  old = config_lib.flatten(config)
  new = config_lib.flatten(pretraining_of_table_3(model, argument))
  return {k: v for k, v in new.items() if v != old[k] and k not in keep}


def compare(
  config: ml_collections.ConfigDict,
  points: Mapping[str, Setting],
  across: str = 'exaflops',
) -> ml_collections.ConfigDict:
  """Returns a study of named points, each of which changes a recipe.

  Small recipes run with three seeds. `across` is the key study.across.
  """
  config.job = 'study'
  seeds = 3 if is_small(config.data.name) else 1
  config.sweep.update(job='pretrain', seeds=seeds)
  config.study.update(points=dict(points), across=across)
  return config
