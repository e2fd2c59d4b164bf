"""Values that follow from config keys, after all overrides."""

import math
from typing import Any

import ml_collections

from vit_jax.config.keys import KEYS


def total_steps(config: ml_collections.ConfigDict, num_examples: int) -> int:
  """Returns the length of the run in steps; epochs are rounded up."""
  if config.total_steps:
    return config.total_steps
  return math.ceil(config.total_epochs * num_examples / config.batch_size)


def warmup_steps(config: ml_collections.ConfigDict, total_steps: int) -> int:
  """Returns the steps of warm-up; see `optim.warmup_steps` for -1.

  Raises:
    ValueError: if the warm-up is as long as the run.
  """
  steps = config.optim.warmup_steps
  if steps == -1:
    return min(10_000, total_steps // 10)
  if steps >= total_steps:
    raise ValueError(
      f'a warm-up of {steps} steps takes up all of a run of {total_steps}'
      ' steps; lower optim.warmup_steps (-1 makes it a tenth of the run, at'
      ' most 10,000), or train for longer.'
    )
  return steps


def image_size(config: ml_collections.ConfigDict) -> tuple[int, int]:
  """Returns height and width of the model's images in px."""
  height = config.data.image_size
  return height, config.data.image_width or height


def eval_splits(config: ml_collections.ConfigDict) -> dict[str, str]:
  """Returns the splits of `data.eval` by their names in metrics.

  By default, the name is that of the dataset's split: test for test[:9].

  Raises:
    ValueError: if a name is missing, not unique or contains a slash.
  """
  splits = {}
  for item in filter(None, map(str.strip, config.data.eval.split(','))):
    name, equals, split = item.partition('=')
    if not equals:
      name, split = item.partition('[')[0], item
    if name in splits or not name or not split or '/' in name:
      raise ValueError(
        f'data.eval={config.data.eval!r}: each split needs a unique name'
        f' without a slash, as in val=train[98%:],test=validation; {item!r} has'
        ' none.'
      )
    splits[name] = split
  return splits


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
