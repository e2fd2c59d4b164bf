"""The ablations of Appendices D.1 to D.4 and D.6 as lists of points."""

import ml_collections

from vit_jax.recipes import studies


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
  config = ABLATIONS[name](data or studies.JFT)
  if not studies.is_small(data) and not config.study.finetune:
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
  return studies.compare(
    studies.pretraining('ViT-B/16', data), points, across='name'
  )


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
  config = studies.compare(
    studies.pretraining('ViT-B/16', data), points, across='step'
  )
  if studies.is_small(data):
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
  if studies.is_small(data):
    base, swept, together = _SMALL_SHAPE, _SMALL_SHAPES, _SMALL_ALL_SHAPES
  shapes = {('base', 'base'): base}
  for dimension, values in swept.items():
    for value in values:
      shapes[f'{dimension} {value}', dimension] = base | {dimension: value}
  for shape in together:
    shapes[f'all {shape["depth"]}', 'all'] = shape
  # Heads of 64 dimensions, in small models of 32.
  head = 32 if studies.is_small(data) else 64
  points = {
    label: {
      **{f'model.{name}': value for name, value in shape.items()},
      'model.heads': shape['width'] // head,
    }
    for label, shape in shapes.items()
  }
  return studies.compare(
    studies.pretraining('ViT-B/32', data), points, across='relative'
  )


def _optimizer(data: str) -> ml_collections.ConfigDict:
  """Table 7: Adam or SGD to pre-train ResNets.

  The paper's text has no learning rate for SGD; ours is that of BiT, 0.03 for
  256 images, and its weight decay.
  """
  config = studies.pretraining('R50x1', data)
  sgd = {'optim.name': 'sgd', 'optim.lr': 0.03 * config.batch_size / 256}
  sgd['optim.weight_decay'] = 1e-4
  if studies.is_small(data):
    models = {'R 1,1 x0.5': studies.resnet('1,1', 0.5)}
    models['R 2,2,2 x0.5'] = studies.resnet('2,2,2', 0.5)
  else:
    models = {
      model: studies.changes_of(
        config, model, studies.pretraining_argument(data)
      )
      for model in ('R50x1', 'R152x2')
    }
  points = {}
  for model, changes in models.items():
    points[f'{model}, Adam', 'Adam'] = changes
    points[f'{model}, SGD', 'SGD'] = dict(changes) | sgd
  config = studies.compare(config, points, across='name')
  if not studies.is_small(data):
    config.study.finetune = studies.DOWNSTREAM
    config.study.metrics = 'finetune/mean/accuracy'
  return config


def _axial(data: str) -> ml_collections.ConfigDict:
  """Figure 13: axial attention against full attention and convolutions."""
  small = studies.is_small(data)
  config = (
    studies.small(data) if small else studies.pretraining('ViT-B/32', data)
  )
  vits = {}
  for side in (32, 16):
    for prefix in ('', 'Axial-'):
      name = f'{prefix}ViT-B/{side}'
      if small:
        sizes = {'depth': 2, 'width': 64, 'mlp_dim': 128, 'heads': 2}
        changes = studies.vit(f'{prefix}ViT-Ti/{side // 4}', **sizes)
      else:
        changes = studies.changes_of(
          config, f'ViT-B/{side}', studies.pretraining_argument(data)
        )
        changes |= {'model.name': name}
      if prefix:  # Rows and columns have no class token.
        changes |= {'model.pool': 'gap'}
      vits[name, ''] = changes
  if small:
    resnet = studies.resnet('1,1,1', 0.5)
  else:
    resnet = studies.changes_of(
      config, 'R50x1', studies.pretraining_argument(data)
    )
  axial = {'model.name': 'AxialR50x1'}
  resnets = {('R50x1', ''): resnet, ('AxialR50x1', ''): resnet | axial}
  return studies.compare(config, vits | resnets)


ABLATIONS = {
  'positions': _positions,
  'pooling': _pooling,
  'shape': _shape,
  'optimizer': _optimizer,
  'axial': _axial,
}
