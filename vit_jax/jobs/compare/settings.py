"""Hyperparameter settings, and the runs that use them.

A setting changes some keys of a config. Every run is a run of `sweep.job` with
its own work directory, so an interrupted sweep or study resumes.
"""

from collections.abc import Iterable, Mapping
import itertools
import re
from typing import Any

from etils import epath
import ml_collections

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.distributed import processes
from vit_jax.jobs.apply import evaluate, few_shot
from vit_jax.jobs.train import supervised
from vit_jax.workdir import files

RUN_JOBS = {
  'evaluate': evaluate.run,
  'few_shot': few_shot.run,
  'finetune': supervised.finetune,
  'pretrain': supervised.pretrain,
}

# Keys by which the data of a run is opened.
_KEYS_OF_DATA = ('data.', 'best_metric', 'loss', 'seed')
# Other folders of a sweep or study.
_RESERVED = ('compiled', 'checkpoints')
_MAX_NAME = 240  # Bytes; file systems take 255.

Setting = tuple[tuple[str, Any], ...]  # Keys and their values; hashable.


class Stopped(Exception):  # noqa: N818
  """A run was preempted before its end."""


def settings(config: ml_collections.ConfigDict) -> list[Setting]:
  """Returns all combinations of `sweep.grid`, then those of `sweep.also`.

  Raises:
    ValueError: if one of them makes an invalid config.
  """
  axes = ([(k, v) for v in values] for k, values in config.sweep.grid.items())
  combinations = list(itertools.product(*axes))
  combinations += [tuple(setting.items()) for setting in config.sweep.also]
  for setting in combinations:
    check(run_config(config, setting))
    check_folder(setting_name(setting))
  if config.sweep.job == 'finetune':
    supervised.check_finetune(config)
  return combinations


def run_config(
  config: ml_collections.ConfigDict, setting: Setting
) -> ml_collections.ConfigDict:
  """Returns the config of a run of `sweep.job` with a setting."""
  config = config.copy_and_resolve_references()
  config.job = config.sweep.job
  config_lib.set_keys(config, dict(setting))
  return config


def check(config: ml_collections.ConfigDict) -> None:
  """Checks what can be checked quickly in a run's config, without its data.

  Raises:
    ValueError: if it is invalid.
  """
  config_lib.check(config)
  build.create_model(config, num_classes=1)
  if config.total_steps:
    config_lib.warmup_steps(config, config.total_steps)


def check_data(
  runs: Iterable[tuple[ml_collections.ConfigDict, epath.Path]],
) -> None:
  """Opens the data of runs that have not finished, equal data only once.

  Args:
    runs: configs and work directories.

  Raises:
    ValueError: if data is missing or does not match the rest of a config.
  """
  opened = set()
  for config, folder in runs:
    if (folder / files.RESULTS).exists():
      continue
    keys = config_lib.flatten(config).items()
    data = repr([(k, v) for k, v in keys if k.startswith(_KEYS_OF_DATA)])
    if data not in opened:
      build.open_data(config)
      opened.add(data)


def check_folder(name: str) -> None:
  """Checks that a setting or a point can have a folder of its own.

  Raises:
    ValueError: if its name cannot be that of a folder, or is that of another.
  """
  parts = name.split('/')
  if (
    name in _RESERVED
    or not re.search('[A-Za-z0-9]', name)
    or not {'.', '..'}.isdisjoint(parts)
    or max(len(part.encode()) for part in parts) > _MAX_NAME
  ):
    raise ValueError(
      f'{name!r} cannot be the folder of a run; a name must contain a letter'
      f' or digit and must not be {" or ".join(_RESERVED)}, and its parts'
      f' between slashes must not be . or .. or longer than {_MAX_NAME} bytes.'
    )


def setting_name(setting: Setting) -> str:
  """Returns a name such as `optim.lr=0.01,mixup=0.1`."""
  texts = as_texts(setting)
  return ','.join(map('='.join, texts.items())) or 'as-given'


def as_texts(setting: Setting) -> Mapping[str, str]:
  """Returns the values of a setting as text, by key."""
  return {key: config_lib.as_text(value, key) for key, value in setting}


def run_or_read(
  config: ml_collections.ConfigDict, folder: epath.Path
) -> dict[str, Any]:
  """Returns the results of a run, starting or resuming it if necessary.

  Raises:
    Stopped: if the run was preempted.
    finite.NonFiniteError: if it diverged.
  """
  RUN_JOBS[config.job](config, folder)
  results = files.read_json(folder / files.RESULTS)
  if results is None:
    raise Stopped
  return results


def clean(folder: epath.Path, *, keep_weights: bool) -> None:
  """Deletes the checkpoints of a finished run, and its weights unless kept."""
  if not processes.is_first():
    return
  if (folder / files.CHECKPOINTS).exists():
    (folder / files.CHECKPOINTS).rmtree()
  if not keep_weights:
    (folder / files.FINAL_WEIGHTS).unlink(missing_ok=True)
