"""Compares models across sizes of the pre-training set (section 4.3).

Every model of a list trains on subsets of several sizes. Each subset is part of
the next larger one, and all models see the same subsets. On each subset, a
model may select among settings of regularization by the best accuracy on
held-out images. Early stopping uses the same accuracy: the weights that reached
its best value are transferred. Figures 3 and 4 of the paper are such studies;
Table 5 is one with several complete pre-training sets.
"""

import dataclasses
import logging

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.distributed import compilation
from vit_jax.jobs.compare import points as points_lib
from vit_jax.jobs.compare import selection, study, summaries
from vit_jax.jobs.compare import settings as settings_lib
from vit_jax.workdir import claim, console

_log = logging.getLogger(__name__)

_REFUSED_BY_RESNETS = ('model.dropout', 'model.stochastic_depth')


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs the study, or resumes it.

  Raises:
    ValueError: if its lists are malformed, or a run is invalid.
  """
  if config.study.collect:
    raise ValueError(
      f'study.collect={config.study.collect!r}: a data study runs all of its'
      ' points; collect finished runs with job=study and study.across=examples.'
    )
  points = points_lib.list_points(config)
  sizes = sorted(config.data_study.sizes, key=lambda n: (n == 0, n))
  sizes = sizes or [config.data.subset]
  candidates = {point.name: _candidates(config, point) for point in points}
  if study.is_finished(config, workdir):
    return
  for point in points:
    for setting in candidates[point.name]:
      settings_lib.check(_changed(point, point.name, setting).config)
  largest = points
  if config.data_study.sizes:
    largest = [_with_subset(point, max(sizes)) for point in points]
  points_lib.check(config, largest, workdir)
  claim.start(config_lib.flatten(config), workdir)
  cells = []  # Column of the table, point, summary.
  try:
    with compilation.persistent_cache(workdir / 'compiled'):
      for size in sizes:
        for point in points:
          _log.info('%s on %s examples', point.name, size or 'all')
          subset = (
            _with_subset(point, size) if config.data_study.sizes else point
          )
          selected, runs = _select_and_run(
            config, subset, candidates[point.name], workdir
          )
          summary = summaries.summarize(subset, runs, selected)
          cells.append((_column(point, points), subset, summary))
  except settings_lib.Stopped:
    return
  study.finish(config, workdir, [cell[-1] for cell in cells], _table(cells))


def _candidates(config, point) -> list[settings_lib.Setting]:
  """Returns the settings to select from, without those that ResNets refuse.

  Raises:
    ValueError: if there are several, but no metric to select by.
  """
  if not config.study.points:
    return [()]  # sweep.grid lists the points instead.
  candidates = settings_lib.settings(config)
  if len(candidates) > 1 and not point.config.best_metric:
    raise ValueError(
      f'selecting among {len(candidates)} settings (sweep.grid, sweep.also)'
      ' needs best_metric, such as val/accuracy, measured on images held out'
      " from training: data.train='train[:98%]' and"
      " data.eval='val=train[98%:],test'."
    )
  if 'ViT' not in point.config.model.name:
    candidates = [
      tuple(pair for pair in setting if pair[0] not in _REFUSED_BY_RESNETS)
      for setting in candidates
    ]
  return list(dict.fromkeys(candidates))


def _with_subset(point, size) -> points_lib.Point:
  """Returns the point with its training set limited to `size` examples."""
  name = f'{point.name}, {size or "all"} examples'
  return _changed(point, name, (('data.subset', size),))


def _changed(point, name, setting) -> points_lib.Point:
  """Returns a point with another name and some keys changed."""
  config = point.config.copy_and_resolve_references()
  config_lib.set_keys(config, dict(setting))
  return dataclasses.replace(point, name=name, config=config)


def _select_and_run(
  config, point, candidates, workdir
) -> tuple[str, list[points_lib.Run | None]]:
  """Runs a point with the setting that is best with the first seed.

  Returns:
    The name of the selected setting, '' if there was no choice, and the runs.
  """

  def with_setting(setting):
    if not setting:
      return point
    name = f'{point.name}, {settings_lib.setting_name(setting)}'
    return _changed(point, name, setting)

  def score(setting):
    trained = points_lib.train(with_setting(setting), workdir, config.seed)
    metric = f'best/{point.config.best_metric}'
    return trained and trained.metrics[metric]

  try:
    selected, scores = selection.select(candidates, score)
  except selection.AllDivergedError:
    return '', [None] * config.sweep.seeds
  name = settings_lib.setting_name(selected) if scores else ''
  if name:
    _log.info('%s: selected %s', point.name, name)
  return name, points_lib.runs(config, with_setting(selected), workdir)


def _column(point, points) -> str:
  """Returns the column of a point: its family, or its name if not unique."""
  same = [
    other
    for other in points
    if (other.family, other.config.data.name)
    == (point.family, point.config.data.name)
  ]
  return point.family if len(same) == 1 else point.name


def _table(cells) -> str:
  """Returns a table like Table 5: a row per dataset and metric, models across.

  Args:
    cells: (column, point, summary) of each trained point.
  """
  columns = dict.fromkeys(column for column, *_ in cells)
  by_row = {}
  for column, point, summary in cells:
    data = point.config.data
    size = data.subset or int(summary.costs.get('examples', 0))
    for metric in summaries.metric_names([summary]):
      row = by_row.setdefault((data.name, size, metric), {})
      row[column] = summaries.percent(summary.metrics, metric)
  rows = [['pre-training', 'examples', 'metric', *columns]]
  rows += [
    [dataset, f'{size}', metric, *(row.get(column, '') for column in columns)]
    for (dataset, size, metric), row in by_row.items()
  ]
  return console.table(rows)
