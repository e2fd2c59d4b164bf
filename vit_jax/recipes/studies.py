"""The studies of sections 4.3 and 4.4 as lists of points, and small ones.

The paper's studies train on JFT-300M; for a folder of images or the embedded
digits there are small ones, of our choice, at 32 px and of some hundred steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from vit_jax import config as config_lib
from vit_jax import recipes

JFT = 'jft300m'
# What Figure 5 and Tables 5 to 7 transfer to.
DOWNSTREAM = 'imagenet2012,cifar10,cifar100,oxford_iiit_pet,oxford_flowers102'

# Models and epochs of Table 6.
TABLE_6 = (
  ('ViT-B/32', 7),
  ('ViT-B/16', 7),
  ('ViT-L/32', 7),
  ('ViT-L/16', 7),
  ('ViT-L/16', 14),
  ('ViT-H/14', 14),
  ('R50x1', 7),
  ('R50x2', 7),
  ('R101x1', 7),
  ('R152x1', 7),
  ('R152x2', 7),
  ('R152x2', 14),
  ('R200x3', 14),
  ('R50+ViT-B/32', 7),
  ('R50+ViT-B/16', 7),
  ('R50+ViT-L/32', 7),
  ('R50+ViT-L/16', 7),
  ('R50+ViT-L/16', 14),
)

Label = tuple[str, str]  # Name and family; '' for that of the model.
Changes = Mapping[str, Any]  # Values by key.


def scaling(argument: str) -> ml_collections.ConfigDict:
  """Accuracy against compute of ViTs, ResNets and hybrids (Figure 5, Table 6).

  Args:
    argument: 'jft300m', or 'folder:PATH' or 'digits' for small ones.

  Raises:
    ValueError: if there is no such study.
  """
  if is_small(argument):
    config = small(argument)
    models = {
      ('ViT 4x64 /8', ''): vit(
        'ViT-Ti/8', depth=4, width=64, mlp_dim=128, heads=2
      ),
      ('ViT 4x96 /8', ''): vit('ViT-Ti/8', **SMALL_SIZES),
      ('ViT 4x96 /4', ''): vit('ViT-Ti/4', **SMALL_SIZES),
      ('R 1,1 x0.5', ''): resnet('1,1', 0.5),
      ('R 1,1,1 x0.5', ''): resnet('1,1,1', 0.5),
      ('R 2,2,2 x0.5', ''): resnet('2,2,2', 0.5),
      ('R 1 + ViT 2x64', ''): hybrid('1', depth=2, width=64, mlp_dim=128),
      ('R 1,1 + ViT 2x96', ''): hybrid('1,1', depth=2, width=96, mlp_dim=192),
      ('R 1 + ViT 4x96', ''): hybrid('1', depth=4, width=96, mlp_dim=192),
    }
    return compare(config, models)
  if argument != JFT:
    raise ValueError(
      f'there is no scaling study of {argument!r}; there are {JFT},'
      ' folder:PATH and digits.'
    )
  config = recipes.pretraining('ViT-B/32', argument)
  rows = {
    (f'{model}, {epochs} epochs', ''): changes_of(
      config, model, f'{argument},{epochs}'
    )
    for model, epochs in TABLE_6
  }
  config = compare(config, rows)
  config.study.finetune = DOWNSTREAM
  config.study.metrics = 'finetune/mean/accuracy,finetune/imagenet2012/accuracy'
  return config


_MODELS_OF_SETS = ('ViT-B/16', 'ViT-B/32', 'ViT-L/16', 'ViT-L/32', 'ViT-H/14')
_MODELS_OF_SIZES = ('R50x1', 'R152x2', 'ViT-B/32', 'ViT-L/32', 'ViT-L/16')


def data(argument: str) -> ml_collections.ConfigDict:
  """Accuracy against the size of the pre-training set (section 4.3).

  Args:
    argument: 'figure4', 'figure3' or 'table5'; 'folder:PATH' or 'digits' for a
      small one.

  Raises:
    ValueError: if there is no such study.
  """
  if is_small(argument):
    config = _data_small(argument)
  elif argument == 'figure4':
    config = _data_sizes()
  elif argument in ('figure3', 'table5'):
    config = _data_sets(downstream=argument == 'table5')
  else:
    raise ValueError(
      f'there is no data study {argument!r}; there are figure3, figure4 and'
      ' table5, and small ones of folder:PATH and digits.'
    )
  config.job = 'data_study'
  config.study.across = 'examples'
  return config


def _data_small(argument):
  """Sizes that the 400 steps see from once to a hundred times."""
  config = small(argument)
  config.data.update(train='train[:95%]', eval='val=train[95%:],test')
  config.update(best_metric='val/accuracy', eval_every=100)
  config.study.metrics = 'test/accuracy'
  points = {
    ('ViT', 'ViT'): vit('ViT-Ti/4', **SMALL_SIZES),
    ('ResNet', 'ResNet'): resnet('1,1,1', 0.5),
  }
  config = compare(config, points)
  config.data_study.sizes = (
    '50,200,800,0' if argument == 'digits' else '250,1000,4000,16000'
  )
  return config


def _data_sizes():
  """Figure 4: as many steps for all sizes, 7 epochs of the whole."""
  config = recipes.pretraining('ViT-B/32', JFT)
  config.update(total_epochs=0.0, total_steps=7 * 303_000_000 // 4096)
  config.best_metric = 'val/accuracy'
  length = ('total_steps', 'total_epochs', 'best_metric')
  points = {
    (model, model): changes_of(config, model, f'{JFT},7', but=length)
    for model in _MODELS_OF_SIZES
  }
  # B with all hidden dimensions halved; Table 3 has no row of it.
  points['ViT-b/32', 'ViT-b/32'] = {'model.name': 'ViT-b/32'}
  config = compare(config, points)
  config.data_study.sizes = '9000000,30000000,90000000,0'
  config.few_shot.update(datasets='imagenet2012', shots='5')
  return config


def _data_sets(downstream: bool):
  """Table 5, or Figure 3: with regularisation chosen, and ImageNet alone."""
  config = recipes.pretraining('ViT-B/16', 'imagenet2012')
  points = {
    (f'{model} from {name}', model): changes_of(
      config, model, name, but=('best_metric',)
    )
    for name in ('imagenet2012', 'imagenet21k', JFT)
    for model in _MODELS_OF_SETS
  }
  config = compare(config, points)
  config.study.finetune = DOWNSTREAM if downstream else 'imagenet2012'
  if not downstream:  # The values are ours.
    config.sweep.grid = (
      'optim.weight_decay=0.03|0.1|0.3 model.dropout=0.0|0.1'
      ' label_smoothing=0.0|0.1'
    )
  return config


def is_small(argument: str) -> bool:
  """Whether it names data that small studies are for."""
  return argument == 'digits' or argument.startswith('folder:')


SMALL_SIZES = {'depth': 4, 'width': 96, 'mlp_dim': 192, 'heads': 3}


def small(argument: str) -> ml_collections.ConfigDict:
  """400 steps of 64 images at 32 px: our choice."""
  config = config_lib.base(
    batch_size=64, total_steps=400, log_every=100, checkpoint_every=0
  )
  config.model.name = 'ViT-Ti/4'
  config.data.update(name=argument, image_size=32, crop_area=0.3)
  if argument == 'digits':
    config.data.update(crop='resize', flip=False)
  config.optim.update(
    name='adam', lr=1e-3, schedule='cosine', warmup_steps=-1, weight_decay=0.1
  )
  config.optim.clip_norm = 1.0
  return config


def pretraining(model: str, data: str) -> ml_collections.ConfigDict:
  """Pre-training of a model for 7 epochs of JFT-300M, or a small one."""
  if not is_small(data):
    return recipes.pretraining(model, pretraining_argument(data))
  config = small(data)
  if model.startswith('ViT'):
    config.model.update(SMALL_SIZES)
  return config


def pretraining_argument(data: str) -> str:
  """As of `recipes.pretraining`; the ablations see JFT-300M 7 times."""
  return f'{JFT},7' if data == JFT else data


def vit(name: str, **sizes: int) -> Changes:
  """A Vision Transformer of other sizes."""
  return {'model.name': name, **{f'model.{k}': v for k, v in sizes.items()}}


def resnet(stage_depths: str, width_factor: float) -> Changes:
  """A small ResNet, which likes a higher learning rate."""
  return {
    'model.name': 'R50x1',
    'model.stage_depths': stage_depths,
    'model.width_factor': width_factor,
    'optim.lr': 3e-3,
  }


def hybrid(stage_depths: str, **sizes: int) -> Changes:
  """A token for each position of the map of a few stages of half width."""
  return vit('R50+ViT-Ti/32', **sizes) | {
    'model.stage_depths': stage_depths,
    'model.width_factor': 0.5,
    'model.heads': sizes['width'] // 32,
  }


def changes_of(
  config: ml_collections.ConfigDict,
  model: str,
  argument: str,
  but: Sequence[str] = (),
) -> Changes:
  """What another model's recipe changes in a config, but for some keys."""
  given = config_lib.flatten(config)
  changed = config_lib.flatten(recipes.pretraining(model, argument))
  return {
    key: value
    for key, value in changed.items()
    if value != given[key] and key not in but
  }


def compare(
  config: ml_collections.ConfigDict,
  points: Mapping[Label, Changes],
  across: str = 'exaflops',
) -> ml_collections.ConfigDict:
  """The study of these points; three seeds of small ones."""
  config.job = 'study'
  config.sweep.update(
    job='pretrain', seeds=3 if is_small(config.data.name) else 1
  )
  config.study.across = across
  items = []
  for (name, family), changes in points.items():
    label = f'{name} ({family})' if family else name
    pairs = ' '.join(f'{k}={_text(v)}' for k, v in changes.items())
    items.append(f'{label}: {pairs}')
  config.study.points = '; '.join(items)
  return config


def _text(value: Any) -> str:
  return str(value).lower() if isinstance(value, bool) else str(value)
