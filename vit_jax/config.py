"""Every configuration key: its default, its unit and meaning, its range.

A file in `configs/` starts from `base(job=...)`, changes what its experiment
changes and returns the result. `check` refuses what is out of range;
`total_steps` and `warmup_steps` derive what follows from other keys, after
the overrides of the command line.
"""

import dataclasses
import math
from typing import Any

import ml_collections


@dataclasses.dataclass(frozen=True)
class Key:
  """A key's default, meaning (with unit) and bounds.

  `on_resume` says that a run may go on after the key was changed.
  """

  default: Any
  meaning: str
  low: float | None = None
  high: float | None = None
  choices: tuple[str, ...] = ()
  on_resume: bool = False


KEYS = {
  'job': Key('pretrain', 'The job to run, a name in vit_jax.main.JOBS.'),
  'seed': Key(0, 'All randomness follows from it.', low=0, high=2**31 - 1),
  'batch_size': Key(4096, 'Examples a step, over all devices.', low=1),
  'eval_batch_size': Key(
    0, 'Examples an evaluation step; 0: batch_size.', low=0, on_resume=True
  ),
  'total_steps': Key(0, 'Length in steps; 0: as total_epochs says.', low=0),
  'total_epochs': Key(
    0.0, 'Length in epochs of the training split; 0: as total_steps.', low=0
  ),
  'log_every': Key(50, 'Steps between progress lines.', low=1),
  'eval_every': Key(
    0, 'Steps between evaluations; 0: at the end alone.', low=0
  ),
  'checkpoint_every': Key(
    1000,
    'Steps between checkpoints; 0: at the end alone.',
    low=0,
    on_resume=True,
  ),
  'keep_checkpoints': Key(
    3, 'How many of the last checkpoints stay.', low=1, on_resume=True
  ),
  'best_metric': Key(
    '',
    'Metric, such as val/accuracy, whose best checkpoint is kept beside the'
    ' last; empty: none.',
  ),
  'profile_steps': Key(
    '',
    'Steps FIRST:LAST to record with the profiler; empty: none.',
    on_resume=True,
  ),
  'loss': Key(
    'softmax',
    'softmax, or sigmoid summed over classes (ImageNet-21k, JFT).',
    choices=('softmax', 'sigmoid'),
  ),
  'label_smoothing': Key(
    0.0, 'Share of probability spread over all classes.', low=0, high=0.999
  ),
  'model.name': Key('ViT-B/16', 'Size and patch side, such as ViT-B/16.'),
  'model.depth': Key(0, "Layers; 0: the name's.", low=0),
  'model.width': Key(0, "Token size; 0: the name's.", low=0),
  'model.mlp_dim': Key(0, "Hidden size of the MLPs; 0: the name's.", low=0),
  'model.heads': Key(0, "Attention heads; 0: the name's.", low=0),
  'model.patch_size': Key(0, "Patch side in px; 0: the name's.", low=0),
  'model.pool': Key(
    'token',
    'Image representation: class token or global average.',
    choices=('token', 'gap'),
  ),
  'model.representation_size': Key(
    0,
    "Width of the head's hidden tanh layer; 0: none; -1: the model's width.",
    low=-1,
  ),
  'model.dropout': Key(0.0, 'Dropout rate (Appendix B.1).', low=0, high=0.999),
  'model.dtype': Key(
    'float32',
    'Compute type; parameters, softmax and norms stay float32.',
    choices=('float32', 'bfloat16'),
  ),
  'model.gelu': Key(
    'tanh', 'Form of GELU in the MLPs.', choices=('tanh', 'erf')
  ),
  'model.head_bias': Key(
    0.0, 'Initial bias of the head; -10 suits sigmoid and many classes.'
  ),
  'data.name': Key(
    'digits', 'digits, folder:PATH, tfds:BUILDER or a catalogue name.'
  ),
  'data.train': Key('train', 'Training split, such as train[:98%].'),
  'data.eval': Key(
    'test',
    'Splits to evaluate, [METRIC_NAME=]SPLIT, separated by commas, such as'
    ' val=train[98%:],test=validation.',
  ),
  'data.subset': Key(
    0, 'Train on this many random examples of the split; 0: all.', low=0
  ),
  'data.dir': Key('', 'TFDS data folder; empty: the default.', on_resume=True),
  'data.manual_dir': Key(
    '', 'Folder of files downloaded by hand for TFDS.', on_resume=True
  ),
  'data.download': Key(
    False, 'Whether TFDS may download and prepare the data.', on_resume=True
  ),
  'data.image_size': Key(
    224, 'Image height in px, and width unless set.', low=1
  ),
  'data.image_width': Key(0, 'Image width in px; 0: image_size.', low=0),
  'data.crop': Key(
    'inception',
    'Training crop: inception (area data.crop_area to 1), resize, random'
    ' (resize, then random crop), center.',
    choices=('inception', 'resize', 'random', 'center'),
  ),
  'data.crop_area': Key(
    0.05, 'Smallest share of the area of an inception crop.', low=0.01, high=1
  ),
  'data.precrop_size': Key(
    0,
    'Side in px before a random or center crop; 0: 7/6 of the image, as 448'
    ' for 384.',
    low=0,
  ),
  'data.flip': Key(True, 'Random horizontal flips.'),
  'data.rotate_degrees': Key(
    0.0, 'Largest random rotation, to either side.', low=0, high=180
  ),
  'data.scale': Key(
    0.0, 'Largest random zoom, as a fraction, to either side.', low=0, high=0.9
  ),
  'data.shift': Key(
    0.0, 'Largest random shift, as a fraction of a side.', low=0, high=1
  ),
  'data.eval_crop': Key(
    'resize',
    'Evaluation crop: resize straight to the size, or center.',
    choices=('resize', 'center'),
  ),
  'optim.name': Key(
    'adam', 'adam (with decoupled decay) or sgd.', choices=('adam', 'sgd')
  ),
  'optim.lr': Key(1e-3, 'Learning rate after warm-up.', low=0),
  'optim.schedule': Key(
    'cosine',
    'Decay after warm-up: linear, to 1e-5, or cosine, to 0.',
    choices=('linear', 'cosine'),
  ),
  'optim.warmup_steps': Key(
    10_000,
    'Steps of linear warm-up; -1: a tenth of the run, at most 10,000.',
    low=-1,
  ),
  'optim.b1': Key(0.9, "Adam's decay of the mean.", low=0, high=1),
  'optim.b2': Key(0.999, "Adam's decay of the square.", low=0, high=1),
  'optim.momentum': Key(0.9, 'Momentum of sgd.', low=0, high=1),
  'optim.weight_decay': Key(
    0.0, 'Decoupled decay of kernels, times the learning rate.', low=0
  ),
  'optim.clip_norm': Key(
    0.0, 'Largest global norm of a gradient; 0: no clipping.', low=0
  ),
  'optim.ema_decay': Key(
    0.0, 'Decay of the averaged weights (Polyak); 0: none.', low=0, high=1
  ),
  'optim.accumulate': Key(
    1, 'Micro-batches whose gradients make one step.', low=1
  ),
  'mesh.data': Key(
    -1,
    'Devices over which the batch is sharded; -1: all.',
    low=-1,
    on_resume=True,
  ),
}


def base(**values: Any) -> ml_collections.ConfigDict:
  """All keys at their defaults, but for top-level `values`."""
  config = ml_collections.ConfigDict()
  for name, key in KEYS.items():
    *groups, leaf = name.split('.')
    node = config
    for group in groups:
      if group not in node:
        node[group] = ml_collections.ConfigDict()
      node = node[group]
    node[leaf] = key.default
  config.lock()
  config.update(values)
  return config


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """`{'model.name': 'ViT-B/16', ...}`, every key by its dotted name."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      flat |= {f'{name}.{leaf}': v for leaf, v in flatten(value).items()}
    else:
      flat[name] = value
  return flat


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses unknown and missing keys, wrong types and values out of range.

  Raises:
    ValueError: naming the key, what it has, and what it may have.
  """
  flat = flatten(config)
  if unknown := sorted(set(flat) - set(KEYS)):
    raise ValueError(
      f'unknown config keys {", ".join(unknown)}; the known ones are'
      f' {", ".join(KEYS)}.'
    )
  if missing := [name for name in KEYS if name not in flat]:
    raise ValueError(
      f'config keys {", ".join(missing)} are missing; start the config from'
      ' vit_jax.config.base().'
    )
  for name, key in KEYS.items():
    _check_value(name, key, flat[name])
  if bool(config.total_steps) == bool(config.total_epochs):
    raise ValueError(
      'the length of a run is total_steps or total_epochs, one of the two, and'
      f' the other is 0; got total_steps={config.total_steps} and'
      f' total_epochs={config.total_epochs}.'
    )
  if config.batch_size % config.optim.accumulate:
    raise ValueError(
      f'batch_size={config.batch_size} does not divide into'
      f' optim.accumulate={config.optim.accumulate} micro-batches; choose a'
      ' batch size that is a multiple of it.'
    )


def _check_value(name: str, key: Key, value: Any) -> None:
  expected = type(key.default)
  number = expected is float and type(value) is int
  if type(value) is not expected and not number:
    raise ValueError(
      f'{name}={value!r} is of type {type(value).__name__}, but'
      f' {expected.__name__} is expected: {key.meaning}'
    )
  if key.choices and value not in key.choices:
    raise ValueError(
      f'{name}={value!r} is not one of {", ".join(key.choices)}: {key.meaning}'
    )
  too_low = key.low is not None and not value >= key.low
  too_high = key.high is not None and not value <= key.high
  if too_low or too_high:
    low = '-inf' if key.low is None else f'{key.low:g}'
    high = 'inf' if key.high is None else f'{key.high:g}'
    raise ValueError(
      f'{name}={value!r} is outside [{low}, {high}]: {key.meaning}'
    )


def total_steps(config: ml_collections.ConfigDict, num_examples: int) -> int:
  """Steps of the run: as given, or enough to see the asked-for epochs."""
  steps = config.total_steps
  if not steps:
    steps = math.ceil(config.total_epochs * num_examples / config.batch_size)
  return steps


def warmup_steps(config: ml_collections.ConfigDict, total_steps: int) -> int:
  """Steps of warm-up: as given, or a tenth of the run.

  Raises:
    ValueError: if the warm-up would outlast the run.
  """
  steps = config.optim.warmup_steps
  if steps == -1:
    return min(10_000, total_steps // 10)
  if steps >= total_steps:
    raise ValueError(
      f'a warm-up of {steps} steps leaves nothing of a run of {total_steps}'
      ' steps; lower optim.warmup_steps (-1 makes it a tenth of the run), or'
      ' train for longer.'
    )
  return steps


def image_size(config: ml_collections.ConfigDict) -> tuple[int, int]:
  """Height and width of the model's images in px."""
  height = config.data.image_size
  return height, config.data.image_width or height


def eval_splits(config: ml_collections.ConfigDict) -> dict[str, str]:
  """`{metric name: split}` of `data.eval`.

  Without a name, a split is called by the letters that it starts with.

  Raises:
    ValueError: if two splits go by one name.
  """
  splits = {}
  for item in filter(None, map(str.strip, config.data.eval.split(','))):
    name, equals, split = item.partition('=')
    if not equals:
      name, split = item.partition('[')[0], item
    if name in splits or not name or not split:
      raise ValueError(
        f'data.eval={config.data.eval!r}: each split needs a name of its own,'
        f' as in val=train[98%:],test=validation; {item!r} has none.'
      )
    splits[name] = split
  return splits


def changed_keys(
  config: ml_collections.ConfigDict, earlier: dict[str, Any]
) -> list[str]:
  """Keys that differ from an earlier run's and may not, as 'key: a -> b'."""
  flat = flatten(config)
  return [
    f'{name}: {earlier.get(name)!r} -> {flat[name]!r}'
    for name, key in KEYS.items()
    if not key.on_resume and flat[name] != earlier.get(name)
  ]
