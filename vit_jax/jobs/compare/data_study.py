"""Compares models by the size of their pre-training set (section 4.3).

Every model of a list trains on subsets of several sizes, those of a size within
those of the next and the same for all models. For each it may choose among
settings of regularisation, by the best accuracy on held-out images, which also
ends training early: the weights of that moment are transferred. Figures 3 and 4
are made so; with the whole of several pre-training sets, Table 5.
"""

import logging

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.distributed import compilation
from vit_jax.jobs.compare import points, study, summaries
from vit_jax.jobs.compare import settings as settings_lib
from vit_jax.workdir import claim, console

_log = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs the study, or what is left of it.

  Raises:
    ValueError: if its lists are not readable, or a run cannot be.
  """
  if config.study.collect:
    raise ValueError(
      f'study.collect={config.study.collect!r}: a data study runs all of its'
      ' points; collect finished runs by job=study with study.across=examples.'
    )
  asked = points.list_points(config)
  sizes = config_lib.integers(config, 'data_study.sizes')
  sizes = sorted(sizes, key=lambda n: (n == 0, n)) or [config.data.subset]
  settings = {point.name: _settings(config, point) for point in asked}
  if study.is_finished(config, workdir):
    return
  claim.start(config_lib.flatten(config), workdir)
  found = []
  try:
    with compilation.persistent_cache(workdir / 'compiled'):
      for size in sizes:
        for point in asked:
          _log.info('%s on %s examples', point.name, size or 'all')
          own = _sized(point, size) if config.data_study.sizes else point
          chosen, runs = _runs(config, own, settings[point.name], workdir)
          column = _column(point, asked)
          found.append((column, own, summaries.summarize(own, runs, chosen)))
  except settings_lib.Stopped:
    return
  table = _table(found)
  study.finish(config, workdir, [outcome for *_, outcome in found], table)


def _settings(config, point) -> list[settings_lib.Setting]:
  """What to choose from; ResNets have no dropout.

  Raises:
    ValueError: if there is nothing to choose by.
  """
  if not config.study.points:
    return [()]  # The grid has given the points.
  found = settings_lib.settings(config)
  if len(found) > 1 and not point.config.best_metric:
    raise ValueError(
      f'sweep.grid={config.sweep.grid!r} needs best_metric to choose by, such'
      ' as val/accuracy with data.eval=val=train[98%:],test.'
    )
  if 'ViT' not in point.config.model.name:
    found = [
      tuple(pair for pair in setting if pair[0] != 'model.dropout')
      for setting in found
    ]
  return list(dict.fromkeys(found))


def _sized(point, size) -> points.Point:
  """The same on a subset."""
  own = point.config.copy_and_resolve_references()
  own.data.subset = size
  name = f'{point.name}, {size or "all"} examples'
  return points.Point(name, point.family, own)


def _runs(
  config, point, settings, workdir
) -> tuple[str, list[points.Run | None]]:
  """Of the setting with the best held-out accuracy with the first seed."""
  if len(settings) == 1:
    return '', points.runs(config, _changed(point, settings[0]), workdir)
  metric = f'best/{point.config.best_metric}'
  scores = {}
  for setting in settings:
    done = points.train(_changed(point, setting), workdir, config.seed)
    scores[setting] = done and done.metrics[metric]
  if not any(score is not None for score in scores.values()):
    return '', [None] * config.sweep.seeds
  chosen = settings_lib.best(scores)
  _log.info('%s: chosen %s', point.name, settings_lib.setting_name(chosen))
  runs = points.runs(config, _changed(point, chosen), workdir)
  return settings_lib.setting_name(chosen), runs


def _changed(point, setting) -> points.Point:
  """The same under a setting of the grid."""
  if not setting:
    return point
  own = point.config.copy_and_resolve_references()
  for key, value in setting:
    config_lib.set_key(own, key, value)
  name = f'{point.name}, {settings_lib.setting_name(setting)}'
  return points.Point(name, point.family, own)


def _column(point, asked) -> str:
  """Its family, or its name where others of its set have the same family."""
  same = [
    other
    for other in asked
    if (other.family, other.config.data.name)
    == (point.family, point.config.data.name)
  ]
  return point.family if len(same) == 1 else point.name


def _table(found) -> str:
  """As Table 5: pre-training sets and metrics, and the models side by side."""
  columns = dict.fromkeys(column for column, *_ in found)
  cells = {}
  for column, point, outcome in found:
    data = point.config.data
    size = data.subset or int(outcome.costs.get('examples', 0))
    for name in summaries.metric_names_of([outcome]):
      row = cells.setdefault((data.name, size, name), {})
      row[column] = summaries.percent(outcome.metrics, name)
  rows = [['pre-training', 'examples', 'metric', *columns]]
  rows += [
    [name, f'{size}', metric, *(row.get(column, '') for column in columns)]
    for (name, size, metric), row in cells.items()
  ]
  return console.table(rows)
