"""Hyperparameter settings, and the runs that use them.

A setting changes some keys of a config. Every run is a run of `sweep.job` with
its own work directory, so an interrupted sweep or study resumes.
"""

from collections.abc import Mapping
import itertools
from typing import Any

from etils import epath
import ml_collections

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
    config_lib.check(run_config(config, setting))
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


def setting_name(setting: Setting) -> str:
  """Returns a name such as `optim.lr=0.01,mixup=0.1`."""
  texts = as_texts(setting)
  return ','.join(map('='.join, texts.items())) or 'as-given'


def as_texts(setting: Setting) -> Mapping[str, str]:
  """Returns the values of a setting as text, by key."""
  return {key: config_lib.as_text(value) for key, value in setting}


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
