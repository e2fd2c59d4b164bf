"""Fine-tuning as Table 4 has it, alone, as a sweep and on VTAB."""

import dataclasses

import ml_collections

from vit_jax import config as config_lib


@dataclasses.dataclass(frozen=True)
class Finetuning:
  """A row of Table 4, and where its images come from.

  Attributes:
    steps: length.
    lrs: learning rates to choose from.
    train: the split of the final runs.
    select: a part of it to train on while choosing; and
    val: the rest, to choose by.
    test: the split that is reported.
  """

  steps: int
  lrs: tuple[float, ...]
  train: str
  select: str
  val: str
  test: str


_LRS = (1e-3, 3e-3, 1e-2, 3e-2)
_CIFAR = Finetuning(10_000, _LRS, 'train', 'train[:98%]', 'train[98%:]', 'test')

TABLE_4 = {
  'imagenet2012': Finetuning(
    20_000,
    (3e-3, 1e-2, 3e-2, 6e-2),
    'train',
    'train[:99%]',
    'train[99%:]',
    'validation',
  ),
  'cifar100': _CIFAR,
  'cifar10': _CIFAR,
  'oxford_iiit_pet': Finetuning(
    500, _LRS, 'train', 'train[:90%]', 'train[90%:]', 'test'
  ),
  # 2,040 images for training, of which the last 204 are a tenth.
  'oxford_flowers102': Finetuning(
    500,
    _LRS,
    'train+validation',
    'train+validation[:80%]',
    'validation[80%:]',
    'test',
  ),
}

# What the official code's best runs drop during fine-tuning.
_FINETUNING_DROPOUT = {'ViT-L/16': 0.1, 'ViT-H/14': 0.1, 'R50+ViT-B/16': 0.1}

# Resolutions of Table 2, in px, where the average of the weights counts.
TABLE_2_SIZE = {'ViT-L/16': 512, 'ViT-H/14': 518}


def finetuning(argument: str) -> ml_collections.ConfigDict:
  """Fine-tuning as Table 4 has it, or on a user's folder.

  Args:
    argument: 'MODEL,DATASET' with a dataset of Table 4 or folder:PATH. A third
      part, 'table2', asks for the ImageNet setting of Table 2: larger images
      and averaged weights; 'bit' for the BiT-HyperRule with MixUp, which
      Appendix B.1.1 tries for ResNets too.

  Raises:
    ValueError: if there is no such setting.
  """
  model, _, rest = argument.partition(',')
  data, _, setting = rest.partition(',')
  if not data or setting not in ('', 'table2', 'bit'):
    raise ValueError(
      f'{argument!r} is not MODEL,DATASET, MODEL,DATASET,bit or'
      ' MODEL,DATASET,table2, as in ViT-B/16,cifar10.'
    )
  config = config_lib.base(
    job='finetune', batch_size=512, eval_every=500, checkpoint_every=500
  )
  config.model.update(
    name=model,
    dropout=_FINETUNING_DROPOUT.get(model, 0.0),
    dtype='bfloat16',
  )
  config.data.update(name=data, image_size=384)
  config.optim.update(
    name='sgd', lr=0.03, momentum=0.9, schedule='cosine', clip_norm=1.0
  )
  if data.startswith('folder:'):
    # Short sets and small batches: our choice, see configs/finetune.py.
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
      f' {", ".join(TABLE_4)}; for your own images write folder:PATH, and for'
      ' another dataset set data.name, data.train, data.eval and total_steps'
      ' beside one of these.'
    )
  if setting == 'bit':
    _set_bit_recipe(config)
  elif setting == 'table2':
    if model not in TABLE_2_SIZE or data != 'imagenet2012':
      raise ValueError(
        f'Table 2 has no such setting for {model} on {data}; it has'
        f' {" and ".join(TABLE_2_SIZE)} on imagenet2012.'
      )
    config.data.image_size = TABLE_2_SIZE[model]
    config.optim.ema_decay = 0.9999
  return config


# Of the BiT-HyperRule: boundaries of its decay by the length of the run.
_BIT_BOUNDARIES = {
  500: '200,300,400',
  10_000: '3000,6000,9000',
  20_000: '6000,12000,18000',
}


def _set_bit_recipe(config: ml_collections.ConfigDict) -> None:
  if config.total_steps not in _BIT_BOUNDARIES:
    raise ValueError(
      'the BiT-HyperRule is for runs of 500, 10,000 and 20,000 steps; choose a'
      ' dataset of Table 4.'
    )
  config.data.crop = 'random'  # Of an image resized to a square.
  config.optim.update(
    lr=0.003,
    schedule='steps',
    boundaries=_BIT_BOUNDARIES[config.total_steps],
    warmup_steps=100 if config.total_steps == 500 else 500,
    clip_norm=0.0,
  )
  if config.total_steps > 500:
    config.mixup = 0.1


def sweep(argument: str) -> ml_collections.ConfigDict:
  """The choice of a learning rate for fine-tuning, and its repetition.

  Args:
    argument: as for `finetuning`. A user's folder gets the rates of the small
      sets, scaled to its batch, and a tenth of it chooses.

  Raises:
    ValueError: if there is no such setting.
  """
  config = finetuning(argument)
  config.job = 'sweep'
  data = config.data.name
  row = TABLE_4.get(data)
  if row:
    config.sweep.update(train=row.select, val=row.val)
    lrs = row.lrs
  else:
    lrs = tuple(lr * config.batch_size / 512 for lr in _LRS)
  config.sweep.grid = 'optim.lr=' + '|'.join(f'{lr:g}' for lr in lrs)
  if row and 'ViT' not in config.model.name:
    recipe = finetuning(f'{config.model.name},{data},bit')
    keys = config_lib.changed_keys(recipe, config_lib.flatten(config))
    names = [key.partition(':')[0] for key in keys]
    flat = config_lib.flatten(recipe)
    config.sweep.also = ' '.join(
      f'{name}={flat[name]}'
      for name in names
      if name != 'job' and not name.startswith('sweep.')
    )
  return config


def vtab(argument: str) -> ml_collections.ConfigDict:
  """The 19 tasks of VTAB-1k as Table 4 and Appendix B.1.1 have them.

  Args:
    argument: 'MODEL', or 'MODEL,TASK' for one task; more may follow.
  """
  model, _, tasks = argument.partition(',')
  config = config_lib.base(
    job='vtab',
    batch_size=512,
    total_steps=2500,
    checkpoint_every=500,
    keep_checkpoints=1,
  )
  config.model.update(name=model, dtype='bfloat16')
  config.data.update(
    name='vtab',
    train='train800val200',
    eval='test',
    image_size=384,
    crop='random',  # Of an image resized to 448 px.
  )
  config.optim.update(
    name='sgd',
    lr=0.01,
    momentum=0.9,
    schedule='cosine',
    warmup_steps=500,
    clip_norm=1.0,
  )
  config.sweep.update(train='train800', val='val200', seeds=3)
  config.vtab.tasks = tasks
  return config
