"""Compares models by their accuracy and their compute.

The studies of section 4.4 and Appendix D: every point of a list trains once per
seed. A run is scored by its own test accuracy and, if requested, by few-shot
accuracy and fine-tuning; its FLOPs are counted. The results are a table, a
chart and the frontier of accuracy against compute. The same command resumes an
unfinished study, and runs points that were added to a finished one.
"""

import logging
from typing import Any

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.build import few_shot_evaluator
from vit_jax.distributed import compilation
from vit_jax.jobs.compare import points as points_lib
from vit_jax.jobs.compare import settings, summaries
from vit_jax.workdir import claim, files, results

_log = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs the study, or resumes it.

  Raises:
    ValueError: if the points are malformed, or a run is invalid.
  """
  points = points_lib.list_points(config)
  if is_finished(config, workdir):
    return
  points_lib.check(config, points, workdir)
  claim.start(config_lib.flatten(config), workdir)
  point_summaries = []
  try:
    with compilation.persistent_cache(workdir / 'compiled'):
      for number, point in enumerate(points, start=1):
        _log.info('point %d of %d: %s', number, len(points), point.name)
        runs = points_lib.runs(config, point, workdir)
        point_summaries.append(summaries.summarize(point, runs))
  except settings.Stopped:
    return
  finish(config, workdir, point_summaries)


def is_finished(config: ml_collections.ConfigDict, workdir: epath.Path) -> bool:
  """Returns whether the study has finished with the current list of points.

  Raises:
    ValueError: if the folder holds a run with another config. Keys of `study`
      and `data_study` may differ.
  """
  if not claim.is_finished(config_lib.flatten(config), workdir):
    return False
  finished = files.read_json(workdir / files.RESULTS)['asked']
  if config_lib.from_json(finished) == _study_keys(config):
    return True
  _log.info(
    'the study has changed since it finished; running any missing points'
  )
  return False


def _study_keys(config) -> dict[str, Any]:
  """Returns the keys that may change between a study and its extension."""
  return {
    key: value
    for key, value in config_lib.flatten(config).items()
    if key.startswith(('study.', 'data_study.'))
  }


def finish(
  config: ml_collections.ConfigDict,
  workdir: epath.Path,
  point_summaries: list[summaries.PointSummary],
  table: str = '',
) -> None:
  """Writes table, chart and results.

  Args:
    config: the study's config.
    workdir: the study's work directory.
    point_summaries: one per point.
    table: a table to write above that of the points.

  Raises:
    ValueError: if a metric of `study.metrics` was not measured.
  """
  across = config.study.across
  dataset = few_shot_evaluator.short_name(config.data.name)
  metrics = summaries.metrics_to_draw(config, point_summaries)
  points_table = summaries.table(point_summaries, across, metrics)
  text = '\n\n'.join(filter(None, [table, points_table]))
  _log.info('%s', text)
  files.write_text(workdir / files.TABLE, text + '\n')
  summaries.draw(
    workdir / files.STUDY_CHART,
    point_summaries,
    across,
    metrics,
    title=f'{dataset}: mean and standard deviation over seeds',
    references={
      metric: summaries.marks_of_the_paper(config, metric) for metric in metrics
    },
  )
  seconds = sum(
    p.seeds * p.costs['seconds'] for p in point_summaries if p.costs
  )
  results.write(
    workdir,
    config.job,
    seconds=seconds,
    metrics={
      f'{point.name}/{key}': point.metrics[key]
      for point in point_summaries
      for metric in metrics
      for key in (metric, f'{metric}_std')
      if key in point.metrics
    },
    drawn=metrics,
    points=summaries.as_json(point_summaries, across, metrics),
    asked=_study_keys(config),
  )
