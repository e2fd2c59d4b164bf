"""Table 4: fine-tuning, except for VTAB."""

import dataclasses
from typing import Any

import ml_collections

from vit_jax import config as config_lib


@dataclasses.dataclass(frozen=True)
class Finetuning:
  """A row of Table 4, and the splits of its dataset.

  Attributes:
    steps: length of a run.
    lrs: learning rates to select from.
    train: training split of the final runs.
    select: training split while selecting, a part of `train`.
    val: the rest of `train`, on which the learning rate is selected.
    test: the split whose accuracy is reported.
  """

  steps: int
  lrs: tuple[float, ...]
  train: str
  select: str
  val: str
  test: str


LRS = (1e-3, 3e-3, 1e-2, 3e-2)  # For all datasets but ImageNet.
_IMAGENET_LRS = (3e-3, 1e-2, 3e-2, 6e-2)
_CIFAR = Finetuning(10_000, LRS, 'train', 'train[:98%]', 'train[98%:]', 'test')

TABLE_4 = {
  'imagenet2012': Finetuning(
    20_000, _IMAGENET_LRS, 'train', 'train[:99%]', 'train[99%:]', 'validation'
  ),
  'cifar100': _CIFAR,
  'cifar10': _CIFAR,
  'oxford_iiit_pet': Finetuning(
    500, LRS, 'train', 'train[:90%]', 'train[90%:]', 'test'
  ),
  # The last 204 of the 2,040 training images are a tenth.
  'oxford_flowers102': Finetuning(
    500,
    LRS,
    'train+validation',
    'train+validation[:80%]',
    'validation[80%:]',
    'test',
  ),
}

# Dropout of the best fine-tuning runs of the official code.
DROPOUT = {'ViT-L/16': 0.1, 'ViT-H/14': 0.1, 'R50+ViT-B/16': 0.1}

# Boundaries of the decay in the BiT-HyperRule, by the length of the run.
_BIT_BOUNDARIES = {
  500: (200, 300, 400),
  10_000: (3000, 6000, 9000),
  20_000: (6000, 12_000, 18_000),
}

# Sizes in px of images in the BiT-HyperRule, before and after the random crop.
_BIT_SIZES = (512, 480)
_BIT_SMALL_SIZES = (160, 128)  # Of images of less than 96x96 px.
_SMALL_IMAGES = ('cifar10', 'cifar100')

# Image sizes in px of Table 2, which also averages the weights.
TABLE_2_SIZE = {'ViT-L/16': 512, 'ViT-H/14': 518}


def finetuning(argument: str) -> ml_collections.ConfigDict:
  """Returns the config that fine-tunes as in Table 4, or on own images.

  Args:
    argument: 'MODEL,DATASET' with a dataset of Table 4, folder:PATH or
      table:FILE; or 'MODEL,DATASET,SETTING', where 'table2' is the ImageNet
      setting of Table 2 with larger images and averaged weights, 'bit' the
      BiT-HyperRule with MixUp, which Appendix B.1.1 also tries for ResNets, and
      'bit384' the same with images of 384 px instead of BiT's sizes.

  Raises:
    ValueError: if there is no such setting.
  """
  model, _, rest = argument.partition(',')
  data, _, setting = rest.partition(',')
  if rest.startswith('table:'):  # Its options follow commas, too.
    data, setting = rest, ''
  if not data or setting not in ('', 'table2', 'bit', 'bit384'):
    raise ValueError(
      f'{argument!r} is not MODEL,DATASET or MODEL,DATASET,SETTING, as in'
      ' ViT-B/16,cifar10, with one of the settings table2, bit and bit384.'
    )
  config = config_lib.base(
    job='finetune', batch_size=512, eval_every=500, checkpoint_every=500
  )
  config.model.update(
    name=model, dropout=DROPOUT.get(model, 0.0), dtype='bfloat16'
  )
  config.data.update(name=data, image_size=image_size(model))
  config.optim.update(
    name='sgd', lr=0.03, momentum=0.9, schedule='cosine', clip_norm=1.0
  )
  if data.startswith(('folder:', 'table:')):
    # Our choice for small datasets; see configs/finetune.py.
    config.update(batch_size=64, total_epochs=20.0)
    config.optim.update(lr=0.03 * 64 / 512, warmup_steps=-1)
  elif data in TABLE_4:
    row = TABLE_4[data]
    config.total_steps = row.steps
    config.optim.warmup_steps = 100 if row.steps == 500 else 500
    config.data.update(train=row.train, eval=f'test={row.test}')
  else:
    raise ValueError(
      f'{data!r} is not a dataset of Table 4, which has'
      f' {", ".join(TABLE_4)}; for your own images write folder:PATH or'
      ' table:FILE, and for another dataset start from one of these and set'
      ' data.name, data.train, data.eval and total_steps.'
    )
  if setting.startswith('bit'):
    if config.total_steps not in _BIT_BOUNDARIES:
      raise ValueError(
        'the BiT-HyperRule is defined for runs of 500, 10,000 and 20,000 steps;'
        ' choose a dataset of Table 4.'
      )
    config.data.crop = 'random'  # From an image resized to a square.
    if setting == 'bit':
      is_small = data in _SMALL_IMAGES
      before, after = _BIT_SMALL_SIZES if is_small else _BIT_SIZES
      config.data.update(precrop_size=before, image_size=after)
    config.optim.update(lr=0.003, schedule='steps', clip_norm=0.0)
    config.optim.boundaries = _BIT_BOUNDARIES[config.total_steps]
    config.mixup = 0.1 if config.total_steps > 500 else 0.0
  elif setting == 'table2':
    if model not in TABLE_2_SIZE or data != 'imagenet2012':
      raise ValueError(
        f'Table 2 has no such setting for {model} on {data}; it has'
        f' {" and ".join(TABLE_2_SIZE)} on imagenet2012.'
      )
    config.data.image_size = TABLE_2_SIZE[model]
    config.optim.update(ema_decay=0.9999, ema_ramp=False)
  return config


def image_size(model: str) -> int:
  """Returns 384 px, or for patches of 14 px the next smaller multiple, 378."""
  patch = model.rpartition('/')[2]
  return 384 - 384 % int(patch) if patch.isdigit() else 384


def trials(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the keys of `sweep` that select a setting as in Appendix B.1.1.

  These are the learning rates of Table 4, for ResNets also the BiT-HyperRule,
  and the splits to select on. An image folder gets the rates of the small
  datasets, scaled to its batch size, and a tenth of its training images selects
  one.

  Args:
    config: a result of `finetuning`, or a change of it.
  """
  row = TABLE_4.get(config.data.name)
  if not row:
    scale = config.batch_size / 512
    return {'grid': {'optim.lr': tuple(lr * scale for lr in LRS)}}
  keys = {
    'train': row.select,
    'val': row.val,
    'grid': {'optim.lr': row.lrs},
  }
  if 'ViT' not in config.model.name:
    argument = f'{config.model.name},{config.data.name}'
    sgd, bit = (
      config_lib.flatten(finetuning(argument + setting))
      for setting in ('', ',bit')
    )
    changed = {name: bit[name] for name in bit if bit[name] != sgd[name]}
    keys['also'] = (changed,)
  return keys
