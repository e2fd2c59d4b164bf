"""Selects a setting on held-out data and repeats it with several seeds.

The protocol of Appendix B.1.1, as shared by sweeps, VTAB and data studies.
"""

from collections.abc import Callable, Mapping, Sequence
import logging
import statistics

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.checkpoints import finite
from vit_jax.jobs.compare import settings

_log = logging.getLogger(__name__)

Scores = dict[settings.Setting, float | None]  # None for a diverged run.


class AllDivergedError(ValueError):
  """No run finished, so no setting can be selected."""


def select(
  candidates: Sequence[settings.Setting],
  score: Callable[[settings.Setting], float | None],
) -> tuple[settings.Setting, Scores]:
  """Returns the setting with the highest score, and all scores.

  A single candidate is returned without scoring it. Among equal scores the
  first one is selected.

  Args:
    candidates: the settings to compare.
    score: returns the score of a setting, or None if its run diverged.

  Raises:
    AllDivergedError: if no setting has a score.
  """
  if len(candidates) == 1:
    return candidates[0], {}
  scores = {setting: score(setting) for setting in candidates}
  finite = {setting: s for setting, s in scores.items() if s is not None}
  if not finite:
    raise AllDivergedError(
      'every run of the sweep diverged; try lower learning rates, or'
      ' optim.clip_norm=1.'
    )
  return max(finite, key=finite.get), scores


def held_out_config(
  config: ml_collections.ConfigDict,
) -> ml_collections.ConfigDict:
  """Returns a config that trains on `sweep.train` and tests on `sweep.val`."""
  config = config.copy_and_resolve_references()
  config.best_metric = ''
  config.data.train = config.sweep.train
  config.data.eval = f'val={config.sweep.val}'
  return config


def held_out_score(
  config: ml_collections.ConfigDict, folder: epath.Path
) -> float | None:
  """Trains on `sweep.train` and returns the score on `sweep.val`.

  Returns:
    The `held_out_metric` of the config, in [0, 1]; None if the run diverged.

  Raises:
    Stopped: if the run was preempted.
  """
  metric = config_lib.held_out_metric(config)
  config = held_out_config(config)
  try:
    return settings.run_or_read(config, folder)['metrics'][metric]
  except finite.NonFiniteError as error:
    _log.warning('%s diverged: %s', folder, error)
    return None


def score_table(scores: Scores, selected: settings.Setting, metric: str) -> str:
  """Returns a table of the settings and their scores."""
  lines = [f'{metric:>14}  setting']
  for setting, score in scores.items():
    mark = '  <- chosen' if setting == selected else ''
    text = 'diverged' if score is None else f'{score:.4f}'
    lines.append(f'{text:>14}  {settings.setting_name(setting)}{mark}')
  return '\n'.join(lines)


def by_name(scores: Scores) -> dict[str, float | None]:
  """Returns the scores keyed by the names of the settings."""
  return {settings.setting_name(setting): s for setting, s in scores.items()}


def seeds(config: ml_collections.ConfigDict) -> range:
  """Returns the seeds of the repeated runs."""
  return range(config.seed, config.seed + config.sweep.seeds)


def mean_and_std(repeats: Sequence[Mapping[str, float]]) -> dict[str, float]:
  """Returns each metric's mean, and its std as NAME_std for several repeats."""
  summary = {}
  for name in repeats[0]:
    values = [metrics[name] for metrics in repeats]
    summary[name] = statistics.fmean(values)
    if len(values) > 1:
      summary[f'{name}_std'] = statistics.stdev(values)
  return summary
