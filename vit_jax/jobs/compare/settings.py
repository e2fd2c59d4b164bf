"""Settings to compare, and the runs that compare them.

A setting changes some keys of a config; `sweep.grid` and `sweep.also` list
settings. A run is one of the job `sweep.job`, in a workdir of its own, so that
what was interrupted goes on where it was.
"""

import itertools
import logging
import statistics
from typing import Any

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.distributed import processes
from vit_jax.jobs.apply import evaluate, few_shot
from vit_jax.jobs.train import supervised
from vit_jax.training import loop
from vit_jax.workdir import files

_log = logging.getLogger(__name__)

RUN_JOBS = {
  'evaluate': evaluate.run,
  'few_shot': few_shot.run,
  'finetune': supervised.finetune,
  'pretrain': supervised.pretrain,
}
METRIC = 'val/accuracy'

Setting = tuple[tuple[str, str], ...]  # Keys and what they are set to.


class Stopped(Exception):  # noqa: N818
  """A run was asked to stop before its end."""


def settings(config: ml_collections.ConfigDict) -> list[Setting]:
  """All combinations of the grid, then the runs of `sweep.also`.

  Raises:
    ValueError: if they cannot be read, or make a config that cannot be.
  """
  axes = []
  for axis in config.sweep.grid.split():
    key, equals, values = axis.partition('=')
    if not equals or not values:
      raise ValueError(
        f'sweep.grid={config.sweep.grid!r}: {axis!r} is not KEY=A|B|C, such as'
        ' optim.lr=0.01|0.03.'
      )
    axes.append([(key, value) for value in values.split('|')])
  found = list(itertools.product(*axes))
  for item in filter(None, map(str.strip, config.sweep.also.split(';'))):
    found.append(pairs('sweep.also', item))
  for setting in found:
    config_lib.check(run_config(config, setting))
  if config.sweep.job == 'finetune':
    supervised.check_finetune(config)
  return found


def pairs(key: str, text: str) -> Setting:
  """Reads KEY=VALUE pairs separated by blanks.

  Args:
    key: where they stand.
    text: of the pairs.

  Raises:
    ValueError: if there is anything else.
  """
  found = tuple(tuple(pair.split('=', 1)) for pair in text.split())
  if any(len(pair) != 2 for pair in found):
    raise ValueError(
      f'{key}: {text!r} is not KEY=VALUE pairs separated by blanks.'
    )
  return found


def run_config(
  config: ml_collections.ConfigDict, setting: Setting
) -> ml_collections.ConfigDict:
  """The sweep's config as that of one run."""
  own = config.copy_and_resolve_references()
  own.job = config.sweep.job
  for key, value in setting:
    config_lib.set_key(own, key, value)
  return own


def setting_name(setting: Setting) -> str:
  """Such as `optim.lr=0.01,mixup=0.1`."""
  return ','.join(f'{key}={value}' for key, value in setting) or 'as-given'


def run_or_read(
  config: ml_collections.ConfigDict, folder: epath.Path
) -> dict[str, Any]:
  """Results of a run, old or new.

  Raises:
    Stopped: if it was asked to stop.
    loop.NonFiniteError: if it diverged.
  """
  RUN_JOBS[config.job](config, folder)
  results = files.read_json(folder / files.RESULTS)
  if results is None:
    raise Stopped
  return results


def held_out_score(
  config: ml_collections.ConfigDict, folder: epath.Path
) -> float | None:
  """Accuracy on `sweep.val` after a run on `sweep.train`.

  Returns:
    The accuracy in [0, 1]; None if the run diverged.

  Raises:
    Stopped: if the run was asked to stop.
  """
  own = config.copy_and_resolve_references()
  own.best_metric = ''
  own.data.train = own.sweep.train
  own.data.eval = f'val={own.sweep.val}'
  try:
    return run_or_read(own, folder)['metrics'][METRIC]
  except loop.NonFiniteError as error:
    _log.warning('%s diverged: %s', folder, error)
    return None


def best(scores: dict[Setting, float | None]) -> Setting:
  """The setting with the highest score; of equals the first.

  Raises:
    ValueError: if no setting has one.
  """
  finite = {setting: s for setting, s in scores.items() if s is not None}
  if not finite:
    raise ValueError(
      f'all {len(scores)} runs of the grid diverged; try lower learning rates,'
      ' or optim.clip_norm=1.'
    )
  return max(finite, key=finite.get)


def score_lines(
  scores: dict[Setting, float | None], chosen: Setting, metric: str
) -> list[str]:
  """A table of what each setting reached."""
  lines = [f'{metric:>14}  setting']
  for setting, score in scores.items():
    mark = '  <- chosen' if setting == chosen else ''
    text = 'diverged' if score is None else f'{score:.4f}'
    lines.append(f'{text:>14}  {setting_name(setting)}{mark}')
  return lines


def clean(folder: epath.Path, *, keep_weights: bool) -> None:
  """Drops of a finished run what would fill disks, where there are many."""
  if not processes.is_first():
    return
  if (folder / files.CHECKPOINTS).exists():
    (folder / files.CHECKPOINTS).rmtree()
  if not keep_weights:
    (folder / files.FINAL_WEIGHTS).unlink(missing_ok=True)


def mean_and_spread(name: str, values: list[float]) -> dict[str, float]:
  """`{name: mean}`, with the standard deviation of several as NAME_std."""
  metrics = {name: statistics.fmean(values)}
  if len(values) > 1:
    metrics[f'{name}_std'] = statistics.stdev(values)
  return metrics
