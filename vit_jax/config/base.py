"""The default config, and how configs are changed and checked."""

from collections.abc import Mapping
import copy
import re
from typing import Any

import ml_collections

from vit_jax.config import values as values_lib
from vit_jax.config.derived import eval_splits, profiled_steps
from vit_jax.config.key import Adjustable, Reporting
from vit_jax.config.keys import KEYS
from vit_jax.models import variants

# If empty, these come from the checkpoint, except in jobs that train.
_FROM_CHECKPOINT = ('loss', 'data.eval_crop', 'data.eval_interpolation')
# Set by the run, too, if it sets the crop.
_WITH_CROP = ('data.precrop_size', 'data.trim_px')
_LENGTHS = {'total_steps': 'total_epochs', 'total_epochs': 'total_steps'}


def base(**values: Any) -> ml_collections.ConfigDict:
  """Returns a config with all keys at their defaults.

  Args:
    **values: top-level keys to set, such as `job` and `batch_size`.
  """
  # Dicts are not converted, since they are the values of some keys.
  config = ml_collections.ConfigDict(convert_dict=False)
  for name, key in KEYS.items():
    group, _, leaf = name.rpartition('.')
    if group and group not in config:
      config[group] = ml_collections.ConfigDict(convert_dict=False)
    (config[group] if group else config)[leaf] = copy.copy(key.default)
  config.lock()
  config.update(values)
  return config


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns all keys by their dotted names, as in `{'model.name': ...}`."""
  flat = {}
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      flat |= {f'{name}.{leaf}': v for leaf, v in flatten(value).items()}
    else:
      flat[name] = value
  return flat


def set_keys(
  config: ml_collections.ConfigDict, values: Mapping[str, Any]
) -> None:
  """Overrides keys of a config, as the command line does.

  A new length replaces the old one: total_steps resets total_epochs, and vice
  versa, unless both are given.

  Args:
    config: the config to change.
    values: by the dotted names of keys; text is parsed to the key's type.

  Raises:
    ValueError: if there is no such key, or a value is not of its type.
  """
  for name, value in values.items():
    values_lib.check_name(name)
    key = KEYS[name]
    if isinstance(value, str) and key.type is not str:
      value = values_lib.parse(name, value)
    values_lib.check(name, value)
    config.update_from_flattened_dict({name: key.type(value)})
  lengths = [name for name in _LENGTHS if values.get(name)]
  if len(lengths) == 1:
    other = _LENGTHS[lengths[0]]
    config[other] = KEYS[other].default


def leave_to_checkpoint(config: ml_collections.ConfigDict) -> None:
  """Empties the keys whose values a job can take from its checkpoint."""
  config.model.name = ''
  config.data.image_size = 0
  config.update_from_flattened_dict(dict.fromkeys(_FROM_CHECKPOINT, ''))


def check(
  config: ml_collections.ConfigDict, *, takes_steps: bool = True
) -> None:
  """Checks that a config has all keys, with valid values that fit together.

  Args:
    config: the config.
    takes_steps: whether its job takes steps and therefore needs a length.

  Raises:
    ValueError: with the key, its value, and what is valid.
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
  for name, value in flat.items():
    values_lib.check(name, value)
  eval_splits(config)
  profiled_steps(config)
  if config.model.name:
    variants.parse(config.model.name)
  _check_pattern('optim.freeze', config.optim.freeze)
  for pattern, _ in config.optim.lr_factors:
    _check_pattern('optim.lr_factors', pattern)
  for name in _FROM_CHECKPOINT:
    if takes_steps and not flat[name]:
      raise ValueError(
        f'{name} is empty, but only jobs that do not train can take it from a'
        f' checkpoint; expected {", ".join(KEYS[name].choices[1:])}.'
      )
  if takes_steps and bool(config.total_steps) == bool(config.total_epochs):
    raise ValueError(
      'set the length of a run by either total_steps or total_epochs, and the'
      f' other to 0; got total_steps={config.total_steps} and'
      f' total_epochs={config.total_epochs}.'
    )
  if config.batch_size % config.optim.accumulate:
    raise ValueError(
      f'batch_size={config.batch_size} cannot be split into'
      f' optim.accumulate={config.optim.accumulate} micro-batches; make it a'
      ' multiple of their number.'
    )
  if config.data.readers and config.batch_size % config.data.readers:
    raise ValueError(
      f'batch_size={config.batch_size} cannot be split evenly over'
      f' data.readers={config.data.readers}; choose a number of readers that'
      ' divides it, or 0 for the default.'
    )


def changed_keys(
  keys: Mapping[str, Any],
  earlier: Mapping[str, Any],
  *,
  in_training: bool = False,
) -> list[str]:
  """Returns the changes that keep a run from resuming, as 'key: old -> new'.

  Args:
    keys: all keys of the run by their dotted names.
    earlier: those of its `config.json`; absent ones have their defaults.
    in_training: whether this is a training run that has not finished.
  """
  earlier = values_lib.from_json(earlier)
  may_change = (Adjustable, Reporting) if in_training else Adjustable
  return [
    f'{name}: {earlier.get(name, key.default)!r} -> {keys[name]!r}'
    for name, key in KEYS.items()
    if keys[name] != earlier.get(name, key.default)
    and not isinstance(key, may_change)
    and not (_is_derived(name, keys) and not keys[name])
  ]


def _check_pattern(name, pattern):
  try:
    re.compile(pattern)
  except (re.error, RecursionError, OverflowError) as error:
    raise ValueError(
      f'{name}={pattern!r} is not a regular expression ({error}):'
      f' {KEYS[name].meaning}'
    ) from error


def _is_derived(name, keys):
  return KEYS[name].derived or name in _WITH_CROP and not keys['data.eval_crop']
