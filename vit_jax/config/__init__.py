"""Configs: made from the table of keys, checked, and what follows from them.

A file in `configs/` starts from `base(job=...)`, changes what its experiment
changes and returns the result. `check` refuses what is out of range;
`total_steps` and `warmup_steps` derive what follows from other keys, after
the overrides of the command line.
"""

from collections.abc import Mapping
import difflib
import json
import math
from typing import Any

from etils import epath
import ml_collections

from vit_jax.config.keys import KEYS, Key

# Jobs that take no steps themselves, and so need no length.
WITHOUT_STEPS = (
  'data_study',
  'dedup',
  'evaluate',
  'few_shot',
  'inference',
  'inspect_model',
  'interpolate',
  'predict',
  'prepare',
  'report',
  'study',
)


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


def of_run(path: str) -> tuple[dict[str, Any], str]:
  """Reads what is known of a run.

  Args:
    path: its workdir, or a weight file in it.

  Returns:
    All keys of its config that are still known, by their dotted names; and what
    `init_from` is for its weights: the file given, or the final ones.

  Raises:
    ValueError: if there is no run.
  """
  given = epath.Path(path)
  folder = given if given.is_dir() else given.parent
  if not (folder / 'config.json').exists():
    raise ValueError(
      f'{path} is neither MODEL,DATASET nor a run, whose folder has a'
      ' config.json.'
    )
  flat = json.loads((folder / 'config.json').read_text())
  final = folder / 'final.npz'
  weights = final if given.is_dir() and final.exists() else given
  return {k: v for k, v in flat.items() if k in KEYS}, str(weights)


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
  takes_steps = config.job not in WITHOUT_STEPS
  if takes_steps and bool(config.total_steps) == bool(config.total_epochs):
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
  if config.data.readers and config.batch_size % config.data.readers:
    raise ValueError(
      f'batch_size={config.batch_size} does not divide into the equal parts of'
      f' data.readers={config.data.readers}; choose a number of readers that'
      ' divides it, or 0 for one that does.'
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


def integers(config: ml_collections.ConfigDict, name: str) -> tuple[int, ...]:
  """The numbers, separated by commas, of a key such as optim.boundaries.

  Raises:
    ValueError: if there is anything else in it.
  """
  value = flatten(config)[name]
  try:
    return tuple(int(item) for item in value.split(',') if item.strip())
  except ValueError as error:
    raise ValueError(
      f'{name}={value!r} is not a list of whole numbers, such as 3,4,6,3.'
    ) from error


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


def check_name(name: str) -> None:
  """Refuses what is no key, such as 'optm.lr'.

  Raises:
    ValueError: naming the nearest key.
  """
  if name not in KEYS:
    near = difflib.get_close_matches(name, KEYS, n=1)
    raise ValueError(
      f'{name!r} is no config key'
      + (f'; did you mean {near[0]}?' if near else '.')
    )


def set_key(config: ml_collections.ConfigDict, name: str, value: str) -> None:
  """Sets a key by its dotted name to what a text says.

  Raises:
    ValueError: if there is no such key, or the text is not of its type.
  """
  check_name(name)
  kind = type(KEYS[name].default)
  try:
    if kind is bool:
      parsed = {'true': True, 'false': False}[value.lower()]
    else:
      parsed = kind(value)
  except (KeyError, ValueError) as error:
    raise ValueError(
      f'{name}={value!r} is not of type {kind.__name__}: {KEYS[name].meaning}'
    ) from error
  *groups, leaf = name.split('.')
  for group in groups:
    config = config[group]
  config[leaf] = parsed


def changed_keys(
  flat: Mapping[str, Any], earlier: Mapping[str, Any]
) -> list[str]:
  """Keys that differ from an earlier run's and may not, as 'key: a -> b'."""
  return [
    f'{name}: {earlier.get(name, key.default)!r} -> {flat[name]!r}'
    for name, key in KEYS.items()
    if flat[name] != earlier.get(name, key.default)
    and not key.on_resume
    and not (key.derived and not flat[name])
  ]
