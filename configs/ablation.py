"""The ablations of Appendix D, each as a study.

  python -m vit_jax.main --config=configs/ablation.py:positions
  python -m vit_jax.main --config=configs/ablation.py:shape,imagenet21k
  python -m vit_jax.main --config=configs/ablation.py:pooling,folder:PATH

The argument is STUDY or STUDY,DATA. DATA is a pre-training set of Table 3, by
default JFT-300M for 7 epochs (the only one with the ResNets of optimizer and
axial); with folder:PATH or digits, small models train for 400 steps at 32 px
with three seeds. STUDY is one of

- positions (D.4, Table 8): no position embeddings, 1-D, 2-D and relative ones;
  1-D and 2-D at the stem, at every layer, or shared by all layers;
- pooling (D.3, Figure 9): class token at learning rate 8e-4, average pooling at
  8e-4 and 3e-4, over the course of the run;
- shape (D.2, Figure 8): depth, width, MLP width and patch size, one at a time
  and all at once, against relative compute. The base is the paper's; the other
  values, which it does not list, are our choice;
- optimizer (D.1, Table 7): Adam or SGD to pre-train R50x1 and R152x2. The paper
  does not state the learning rate of SGD; ours is that of BiT, 0.03 for 256
  images, with its weight decay;
- axial (D.6, Figure 13): ViT-B/32, ViT-B/16 and R50x1, and the same with axial
  attention, against compute.

Metric: ImageNet 5-shot accuracy; for shape also its mean with five other
datasets; for optimizer the mean accuracy after fine-tuning; on small data the
test accuracy. The output files are the same as in configs/scaling.py. Hardware:
TPU slices. Expected: 61.4 per cent without position embeddings, 64.0 to 64.3
with them (Table 8); R50x1 89.33 with Adam and 88.79 with SGD on average (Table
7).
"""

import ml_collections

from vit_jax.recipes import studies


def _positions(data: str) -> ml_collections.ConfigDict:
  points = {'none': {'family': 'none', 'model.positions': 'none'}}
  for kind in ('1d', '2d'):
    for place in ('stem', 'every_layer', 'every_layer_shared'):
      point = {'model.positions': kind, 'model.positions_at': place}
      points[f'{kind} {place}'] = {'family': kind} | point
  points['relative'] = {'family': 'relative', 'model.positions': 'relative'}
  return studies.compare(
    studies.pretraining('ViT-B/16', data), points, across='name'
  )


def _pooling(data: str) -> ml_collections.ConfigDict:
  token = {'family': 'token', 'model.pool': 'token'}
  gap = {'family': 'GAP', 'model.pool': 'gap', 'model.representation_size': 0}
  points = {
    'token, lr 0.0008': token | {'optim.lr': 8e-4},
    'GAP, lr 0.0008': gap | {'optim.lr': 8e-4},
    'GAP, lr 0.0003': gap | {'optim.lr': 3e-4},
  }
  config = studies.compare(
    studies.pretraining('ViT-B/16', data), points, across='step'
  )
  if studies.is_small(data):
    config.eval_every = 100
  else:
    config.few_shot.every = 25_000
  return config


_SIZES = ('depth', 'width', 'mlp_dim', 'patch_size')
_BASE = (8, 1024, 2048, 32)  # Where all lines of Figure 8 meet.
_ONE_AT_A_TIME = {
  'depth': (2, 4, 16, 32, 64),
  'width': (256, 512, 1536, 2048),
  'mlp_dim': (512, 1024, 4096, 8192, 16384),
  'patch_size': (56, 28, 16, 14),
}
_ALL_AT_ONCE = ((4, 512, 1024, 56), (12, 1536, 3072, 28), (16, 2048, 4096, 16))
# The paper does not list the datasets of its mean; these are our choice.
_FEW_SHOT = (
  'imagenet2012',
  'caltech101',
  'cars196',
  'dtd',
  'oxford_iiit_pet',
  'uc_merced',
)
_SMALL_BASE = (2, 64, 128, 8)
_SMALL_ONE_AT_A_TIME = {
  'depth': (1, 4, 8),
  'width': (32, 128, 192),
  'mlp_dim': (64, 256, 512),
  'patch_size': (16, 4),
}
_SMALL_ALL_AT_ONCE = ((1, 32, 64, 16), (4, 128, 256, 4))


def _shape(data: str) -> ml_collections.ConfigDict:
  values, one, together = _BASE, _ONE_AT_A_TIME, _ALL_AT_ONCE
  if studies.is_small(data):
    values, one = _SMALL_BASE, _SMALL_ONE_AT_A_TIME
    together = _SMALL_ALL_AT_ONCE
  base = dict(zip(_SIZES, values, strict=True))
  shapes = {'base': ('base', base)}
  for size, values in one.items():
    for value in values:
      shapes[f'{size} {value}'] = size, base | {size: value}
  for values in together:
    shape = dict(zip(_SIZES, values, strict=True))
    shapes[f'all {shape["depth"]}'] = 'all', shape
  head_size = 32 if studies.is_small(data) else 64
  points = {}
  for name, (family, shape) in shapes.items():
    shape = shape | {'heads': shape['width'] // head_size}
    sizes = {f'model.{size}': value for size, value in shape.items()}
    points[name] = {'family': family, **sizes}
  config = studies.compare(
    studies.pretraining('ViT-B/32', data), points, across='relative'
  )
  if not studies.is_small(data):
    config.few_shot.datasets = _FEW_SHOT
    config.study.metrics = (
      'few_shot/mean/5shot',
      'few_shot/imagenet2012/5shot',
    )
  return config


def _optimizer(data: str) -> ml_collections.ConfigDict:
  config = studies.pretraining('R50x1', data)
  sgd = {
    'optim.name': 'sgd',
    'optim.lr': 0.03 * config.batch_size / 256,
    'optim.weight_decay': 1e-4,
    'optim.coupled_decay': True,
  }
  if studies.is_small(data):
    models = {
      'R 1,1 x0.5': studies.resnet(1, 1),
      'R 2,2,2 x0.5': studies.resnet(2, 2, 2),
    }
  else:
    models = _recipes(config, data, 'R50x1', 'R152x2')
  points = {}
  for model, setting in models.items():
    points[f'{model}, Adam'] = {'family': 'Adam', **setting}
    points[f'{model}, SGD'] = {'family': 'SGD', **setting, **sgd}
  config = studies.compare(config, points, across='name')
  if not studies.is_small(data):
    config.study.update(
      finetune=studies.DOWNSTREAM,
      finetune_sweep=True,
      metrics=('finetune/mean/accuracy',),
    )
  return config


def _recipes(config, data, *models: str) -> dict[str, studies.Setting]:
  """Returns the keys that each model's recipe changes in a config, by model."""
  argument = studies.argument(data)
  return {model: studies.changes(config, model, argument) for model in models}


def _axial(data: str) -> ml_collections.ConfigDict:
  if studies.is_small(data):
    config = studies.small(data)
    full = {
      'ViT-B/32': studies.vit('ViT-Ti/8', depth=2, width=64),
      'ViT-B/16': studies.vit('ViT-Ti/4', depth=2, width=64),
      'R50x1': studies.resnet(1, 1, 1),
    }
  else:
    config = studies.pretraining('ViT-B/32', data)
    full = _recipes(config, data, 'ViT-B/32', 'ViT-B/16', 'R50x1')
  points = {}
  for model, setting in full.items():
    is_vit = 'ViT' in model
    prefix = 'Axial-' if is_vit else 'Axial'
    axial = {'model.name': prefix + setting.get('model.name', model)}
    if is_vit:  # Rows and columns have no class token.
      axial['model.pool'] = 'gap'
      if not studies.is_small(data):
        axial['optim.lr'] = 3e-4  # That of average pooling (D.3).
    points |= {model: setting, f'{prefix}{model}': {**setting, **axial}}
  return studies.compare(config, points)


ABLATIONS = {
  'positions': _positions,
  'pooling': _pooling,
  'shape': _shape,
  'optimizer': _optimizer,
  'axial': _axial,
}


def get_config(argument: str = 'positions') -> ml_collections.ConfigDict:
  """Returns the config for 'STUDY' or 'STUDY,DATA'.

  Raises:
    ValueError: if there is no such study.
  """
  name, _, data = argument.partition(',')
  if name not in ABLATIONS:
    raise ValueError(
      f'there is no ablation {name!r}; choose one of {", ".join(ABLATIONS)};'
      ' for a pre-training set other than jft300m write positions,folder:PATH.'
    )
  config = ABLATIONS[name](data or studies.JFT)
  if not studies.is_small(data) and not config.study.finetune:
    config.few_shot.shots = (5,)
    if not config.few_shot.datasets:
      config.few_shot.datasets = ('imagenet2012',)
      config.study.metrics = ('few_shot/imagenet2012/5shot',)
  return config
