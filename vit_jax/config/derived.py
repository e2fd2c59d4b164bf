"""Values that follow from config keys, after all overrides."""

import math
import re
from typing import Any

import ml_collections

from vit_jax.config.keys import KEYS

# Part of the name predictions_SPLIT.jsonl.
_SPLIT_NAME = re.compile(r'\w[\w.+ -]{0,99}')


def total_steps(config: ml_collections.ConfigDict, num_examples: int) -> int:
  """Returns the length of the run in steps; epochs are rounded up.

  Raises:
    ValueError: if it exceeds the range of `total_steps`.
  """
  if config.total_steps:
    return config.total_steps
  steps = math.ceil(config.total_epochs * num_examples / config.batch_size)
  _, most = KEYS['total_steps'].range
  if steps > most:
    raise ValueError(
      f'total_epochs={config.total_epochs:g} of {num_examples:,} examples are'
      f' {steps:,} steps, more than {most:,}; train for fewer epochs.'
    )
  return steps


def warmup_steps(config: ml_collections.ConfigDict, total_steps: int) -> int:
  """Returns the number of warm-up steps; see `optim.warmup_steps`.

  The length of a run of epochs depends on its data: a recipe for millions of
  images also runs on a small part of them, with a shorter warm-up.

  Raises:
    ValueError: if the warm-up is as long as a run of `total_steps`.
  """
  steps = config.optim.warmup_steps
  if steps == -1 or (steps >= total_steps and not config.total_steps):
    return min(10_000, total_steps // 10)
  if steps >= total_steps:
    raise ValueError(
      f'a warm-up of {steps} steps takes up all of a run of {total_steps}'
      ' steps; lower optim.warmup_steps (-1 makes it a tenth of the run, at'
      ' most 10,000), or train for longer.'
    )
  return steps


def image_size(config: ml_collections.ConfigDict) -> tuple[int, int]:
  """Returns the height and width of the model's images in px."""
  height = config.data.image_size
  return height, config.data.image_width or height


def eval_splits(config: ml_collections.ConfigDict) -> dict[str, str]:
  """Returns the splits of `data.eval` by their names in metrics.

  By default, the name is that of the dataset's split: test for test[:9].

  Raises:
    ValueError: if a name occurs twice or cannot be part of a file name.
  """
  splits = {}
  for item in filter(None, map(str.strip, config.data.eval.split(','))):
    name, equals, split = item.partition('=')
    if not equals:
      name, split = item.partition('[')[0], item
    if name in splits or not split or not _SPLIT_NAME.fullmatch(name):
      raise ValueError(
        f'data.eval={config.data.eval!r}: each split needs a unique name, as in'
        f' val=train[98%:],test=validation; that of {item!r} is not unique or'
        ' is not a file name (letters, digits, spaces and _.+-).'
      )
    splits[name] = split
  return splits


def held_out_metric(config: ml_collections.ConfigDict) -> str:
  """Returns the metric by which a sweep selects a setting.

  It is the quantity of `best_metric`, by default the accuracy, on `sweep.val`.
  """
  return f'val/{config.best_metric.rpartition("/")[2] or "accuracy"}'


def profiled_steps(
  config: ml_collections.ConfigDict, total_steps: int | None = None
) -> tuple[int, int] | None:
  """Returns the first and last step of `profile_steps`; None if it is empty.

  Raises:
    ValueError: if it is not of the form FIRST:LAST, they are out of order, or
      the first one is not before `total_steps`, if given.
  """
  if not config.profile_steps:
    return None
  match = re.fullmatch(r'([0-9]{1,10}):([0-9]{1,10})', config.profile_steps)
  if not match or int(match[1]) > int(match[2]):
    raise ValueError(
      f'profile_steps={config.profile_steps!r} is not of the form FIRST:LAST,'
      ' such as 10:15, with the steps in this order.'
    )
  first, last = int(match[1]), int(match[2])
  if total_steps is not None and first >= total_steps:
    raise ValueError(
      f'profile_steps={config.profile_steps!r} begins after the run, whose'
      f' steps are 0 to {total_steps - 1}; choose earlier steps.'
    )
  return first, last


def model_options(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the options for `models.create` that the config sets."""
  options = {
    name: value
    for name, value in config.model.items()
    if value != KEYS[f'model.{name}'].unset
  }
  if config.model.representation_size == -1:
    options['representation_size'] = 'width'
  return options
