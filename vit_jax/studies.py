"""The studies of the paper as lists of points, and small ones like them.

Sections 4.3 and 4.4, Appendices D.1 to D.4 and D.6. The paper's studies train
on JFT-300M; for a folder of images or the embedded digits there are small ones,
of our choice, at 32 px and of some hundred steps.
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
  if _is_small(argument):
    config = _small(argument)
    models = {
      ('ViT 4x64 /8', ''): _vit(
        'ViT-Ti/8', depth=4, width=64, mlp_dim=128, heads=2
      ),
      ('ViT 4x96 /8', ''): _vit('ViT-Ti/8', **_SMALL_SIZES),
      ('ViT 4x96 /4', ''): _vit('ViT-Ti/4', **_SMALL_SIZES),
      ('R 1,1 x0.5', ''): _resnet('1,1', 0.5),
      ('R 1,1,1 x0.5', ''): _resnet('1,1,1', 0.5),
      ('R 2,2,2 x0.5', ''): _resnet('2,2,2', 0.5),
      ('R 1 + ViT 2x64', ''): _hybrid('1', depth=2, width=64, mlp_dim=128),
      ('R 1,1 + ViT 2x96', ''): _hybrid('1,1', depth=2, width=96, mlp_dim=192),
      ('R 1 + ViT 4x96', ''): _hybrid('1', depth=4, width=96, mlp_dim=192),
    }
    return _study(config, models)
  if argument != JFT:
    raise ValueError(
      f'there is no scaling study of {argument!r}; there are {JFT},'
      ' folder:PATH and digits.'
    )
  config = recipes.pretraining('ViT-B/32', argument)
  rows = {
    (f'{model}, {epochs} epochs', ''): _recipe(
      config, model, f'{argument},{epochs}'
    )
    for model, epochs in TABLE_6
  }
  config = _study(config, rows)
  config.study.finetune = DOWNSTREAM
  config.study.metrics = 'finetune/mean/accuracy,finetune/imagenet2012/accuracy'
  return config


def ablation(argument: str) -> ml_collections.ConfigDict:
  """One of the ablations.

  Args:
    argument: a name of `ABLATIONS`, or 'NAME,DATA' with a pre-training set of
      Table 3, 'folder:PATH' or 'digits'.

  Raises:
    ValueError: if there is no such study.
  """
  name, _, data = argument.partition(',')
  if name not in ABLATIONS:
    raise ValueError(
      f'there is no ablation {name!r}; there are {", ".join(ABLATIONS)}, each'
      ' with jft300m or, as in positions,folder:PATH, another pre-training set.'
    )
  config = ABLATIONS[name](data or JFT)
  if not _is_small(data) and not config.study.finetune:
    config.few_shot.update(datasets='imagenet2012', shots='5')
    config.study.metrics = 'few_shot/imagenet2012/5shot'
  return config


def _positions(data: str) -> ml_collections.ConfigDict:
  """Table 8: kinds of position embeddings, and where they are added."""
  settings = [('none', 'stem')]
  settings += [
    (kind, place)
    for kind in ('1d', '2d')
    for place in ('stem', 'every_layer', 'every_layer_shared')
  ]
  settings += [('relative', 'stem')]
  points = {
    (kind if kind in ('none', 'relative') else f'{kind} {place}', kind): {
      'model.positions': kind,
      'model.positions_at': place,
    }
    for kind, place in settings
  }
  return _study(_base('ViT-B/16', data), points, across='name')


def _pooling(data: str) -> ml_collections.ConfigDict:
  """Figure 9: class token or average pooling, and the learning rate of each."""
  points = {
    (f'{label}, lr {lr}', label): {'model.pool': pool, 'optim.lr': lr}
    for label, pool, lr in (
      ('token', 'token', 8e-4),
      ('GAP', 'gap', 8e-4),
      ('GAP', 'gap', 3e-4),
    )
  }
  config = _study(_base('ViT-B/16', data), points, across='step')
  if _is_small(data):
    config.eval_every = 100
  else:
    config.few_shot.every = 25_000
  return config


# Of Figure 8: depth, width, MLP width, patch side. The first is the paper's
# base, where all its lines meet; the values swept are ours.
_SHAPE = {'depth': 8, 'width': 1024, 'mlp_dim': 2048, 'patch_size': 32}
_SHAPES = {
  'depth': (2, 4, 16, 32, 64),
  'width': (256, 512, 1536, 2048),
  'mlp_dim': (512, 1024, 4096, 8192, 16384),
  'patch_size': (56, 28, 16, 14),
}
_ALL_SHAPES = (
  {'depth': 4, 'width': 512, 'mlp_dim': 1024, 'patch_size': 56},
  {'depth': 12, 'width': 1536, 'mlp_dim': 3072, 'patch_size': 28},
  {'depth': 16, 'width': 2048, 'mlp_dim': 4096, 'patch_size': 16},
)
_SMALL_SHAPE = {'depth': 2, 'width': 64, 'mlp_dim': 128, 'patch_size': 8}
_SMALL_SHAPES = {
  'depth': (1, 4, 8),
  'width': (32, 128, 192),
  'mlp_dim': (64, 256, 512),
  'patch_size': (16, 4),
}
_SMALL_ALL_SHAPES = (
  {'depth': 1, 'width': 32, 'mlp_dim': 64, 'patch_size': 16},
  {'depth': 4, 'width': 128, 'mlp_dim': 256, 'patch_size': 4},
)


def _shape(data: str) -> ml_collections.ConfigDict:
  """Figure 8: one dimension of the transformer at a time, and all at once."""
  base, swept, together = _SHAPE, _SHAPES, _ALL_SHAPES
  if _is_small(data):
    base, swept, together = _SMALL_SHAPE, _SMALL_SHAPES, _SMALL_ALL_SHAPES
  shapes = {('base', 'base'): base}
  for dimension, values in swept.items():
    for value in values:
      shapes[f'{dimension} {value}', dimension] = base | {dimension: value}
  for shape in together:
    shapes[f'all {shape["depth"]}', 'all'] = shape
  # Heads of 64 dimensions, in small models of 32.
  head = 32 if _is_small(data) else 64
  points = {
    label: {
      **{f'model.{name}': value for name, value in shape.items()},
      'model.heads': shape['width'] // head,
    }
    for label, shape in shapes.items()
  }
  return _study(_base('ViT-B/32', data), points, across='relative')


def _optimizer(data: str) -> ml_collections.ConfigDict:
  """Table 7: Adam or SGD to pre-train ResNets.

  The paper's text has no learning rate for SGD; ours is that of BiT, 0.03 for
  256 images, and its weight decay.
  """
  config = _base('R50x1', data)
  sgd = {'optim.name': 'sgd', 'optim.lr': 0.03 * config.batch_size / 256}
  sgd['optim.weight_decay'] = 1e-4
  if _is_small(data):
    models = {'R 1,1 x0.5': _resnet('1,1', 0.5)}
    models['R 2,2,2 x0.5'] = _resnet('2,2,2', 0.5)
  else:
    models = {
      model: _recipe(config, model, _argument(data))
      for model in ('R50x1', 'R152x2')
    }
  points = {}
  for model, changes in models.items():
    points[f'{model}, Adam', 'Adam'] = changes
    points[f'{model}, SGD', 'SGD'] = dict(changes) | sgd
  config = _study(config, points, across='name')
  if not _is_small(data):
    config.study.finetune = DOWNSTREAM
    config.study.metrics = 'finetune/mean/accuracy'
  return config


def _axial(data: str) -> ml_collections.ConfigDict:
  """Figure 13: axial attention against full attention and convolutions."""
  small = _is_small(data)
  config = _small(data) if small else _base('ViT-B/32', data)
  vits = {}
  for side in (32, 16):
    for prefix in ('', 'Axial-'):
      name = f'{prefix}ViT-B/{side}'
      if small:
        sizes = {'depth': 2, 'width': 64, 'mlp_dim': 128, 'heads': 2}
        changes = _vit(f'{prefix}ViT-Ti/{side // 4}', **sizes)
      else:
        changes = _recipe(config, f'ViT-B/{side}', _argument(data))
        changes |= {'model.name': name}
      if prefix:  # Rows and columns have no class token.
        changes |= {'model.pool': 'gap'}
      vits[name, ''] = changes
  if small:
    resnet = _resnet('1,1,1', 0.5)
  else:
    resnet = _recipe(config, 'R50x1', _argument(data))
  axial = {'model.name': 'AxialR50x1'}
  resnets = {('R50x1', ''): resnet, ('AxialR50x1', ''): resnet | axial}
  return _study(config, vits | resnets)


ABLATIONS = {
  'positions': _positions,
  'pooling': _pooling,
  'shape': _shape,
  'optimizer': _optimizer,
  'axial': _axial,
}


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
  if _is_small(argument):
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
  config = _small(argument)
  config.data.update(train='train[:95%]', eval='val=train[95%:],test')
  config.update(best_metric='val/accuracy', eval_every=100)
  points = {
    ('ViT', 'ViT'): _vit('ViT-Ti/4', **_SMALL_SIZES),
    ('ResNet', 'ResNet'): _resnet('1,1,1', 0.5),
  }
  config = _study(config, points)
  config.data_study.sizes = '1000,4000,16000,0'
  return config


def _data_sizes():
  """Figure 4: as many steps for all sizes, 7 epochs of the whole."""
  config = recipes.pretraining('ViT-B/32', JFT)
  config.update(total_epochs=0.0, total_steps=7 * 303_000_000 // 4096)
  config.best_metric = 'val/accuracy'
  length = ('total_steps', 'total_epochs', 'best_metric')
  points = {
    (model, model): _recipe(config, model, f'{JFT},7', but=length)
    for model in _MODELS_OF_SIZES
  }
  # B with all hidden dimensions halved; Table 3 has no row of it.
  points['ViT-b/32', 'ViT-b/32'] = {'model.name': 'ViT-b/32'}
  config = _study(config, points)
  config.data_study.sizes = '9000000,30000000,90000000,0'
  config.few_shot.update(datasets='imagenet2012', shots='5')
  return config


def _data_sets(downstream: bool):
  """Table 5, or Figure 3: with regularisation chosen, and ImageNet alone."""
  config = recipes.pretraining('ViT-B/16', 'imagenet2012')
  points = {
    (f'{model} from {name}', model): _recipe(
      config, model, name, but=('best_metric',)
    )
    for name in ('imagenet2012', 'imagenet21k', JFT)
    for model in _MODELS_OF_SETS
  }
  config = _study(config, points)
  config.study.finetune = DOWNSTREAM if downstream else 'imagenet2012'
  if not downstream:  # The values are ours.
    config.sweep.grid = (
      'optim.weight_decay=0.03|0.1|0.3 model.dropout=0.0|0.1'
      ' label_smoothing=0.0|0.1'
    )
  return config


def _is_small(argument: str) -> bool:
  return argument == 'digits' or argument.startswith('folder:')


_SMALL_SIZES = {'depth': 4, 'width': 96, 'mlp_dim': 192, 'heads': 3}


def _small(argument: str) -> ml_collections.ConfigDict:
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


def _base(model: str, data: str) -> ml_collections.ConfigDict:
  """Pre-training of a model for 7 epochs of JFT-300M, or a small one."""
  if not _is_small(data):
    return recipes.pretraining(model, _argument(data))
  config = _small(data)
  if model.startswith('ViT'):
    config.model.update(_SMALL_SIZES)
  return config


def _argument(data: str) -> str:
  return f'{JFT},7' if data == JFT else data


def _vit(name: str, **sizes: int) -> Changes:
  return {'model.name': name, **{f'model.{k}': v for k, v in sizes.items()}}


def _resnet(stage_depths: str, width_factor: float) -> Changes:
  return {
    'model.name': 'R50x1',
    'model.stage_depths': stage_depths,
    'model.width_factor': width_factor,
    'optim.lr': 3e-3,
  }


def _hybrid(stage_depths: str, **sizes: int) -> Changes:
  """A token for each position of the map of a few stages of half width."""
  return _vit('R50+ViT-Ti/32', **sizes) | {
    'model.stage_depths': stage_depths,
    'model.width_factor': 0.5,
    'model.heads': sizes['width'] // 32,
  }


def _recipe(
  config: ml_collections.ConfigDict,
  model: str,
  argument: str,
  but: Sequence[str] = (),
) -> Changes:
  """What the recipe of a model changes in that of another, but for some keys."""
  given = config_lib.flatten(config)
  changed = config_lib.flatten(recipes.pretraining(model, argument))
  return {
    key: value
    for key, value in changed.items()
    if value != given[key] and key not in but
  }


def _study(
  config: ml_collections.ConfigDict,
  points: Mapping[Label, Changes],
  across: str = 'exaflops',
) -> ml_collections.ConfigDict:
  """The study of these points; three seeds of small ones."""
  config.job = 'study'
  config.sweep.update(
    job='pretrain', seeds=3 if _is_small(config.data.name) else 1
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
