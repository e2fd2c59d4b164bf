"""The check of a whole config."""

import ml_collections

from vit_jax.config import values
from vit_jax.config.base import flatten
from vit_jax.config.keys import KEYS


def check(
  config: ml_collections.ConfigDict, *, takes_steps: bool = True
) -> None:
  """Checks that a config has all keys, with valid values that fit together.

  Args:
    config: the config.
    takes_steps: whether its job takes steps and so needs a length.

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
    values.check(name, value)
  if takes_steps and bool(config.total_steps) == bool(config.total_epochs):
    raise ValueError(
      'the length of a run is either total_steps or total_epochs, and the other'
      f' one is 0; got total_steps={config.total_steps} and'
      f' total_epochs={config.total_epochs}.'
    )
  if config.batch_size % config.optim.accumulate:
    raise ValueError(
      f'batch_size={config.batch_size} does not divide into'
      f' optim.accumulate={config.optim.accumulate} micro-batches; choose a'
      ' multiple of it.'
    )
  if config.data.readers and config.batch_size % config.data.readers:
    raise ValueError(
      f'batch_size={config.batch_size} does not divide into equal parts for'
      f' data.readers={config.data.readers}; choose a number of readers that'
      ' divides it, or 0 for the default.'
    )
