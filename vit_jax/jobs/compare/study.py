"""Compares models and budgets by what they reach and what they cost.

As section 4.4 and Appendix D do: every point of a list runs once for each seed,
or is found finished; its weights are scored by their own test accuracy and,
where asked, by few-shot accuracy and fine-tuning; its compute is counted. A
table, a chart and the frontier come of it. The same command goes on with what
is not finished, and with points that were added.
"""

import logging
from typing import Any

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.build import few_shot_evaluator
from vit_jax.distributed import compilation
from vit_jax.jobs.compare import points, settings, summaries
from vit_jax.workdir import claim, files, results

_log = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs the study, or what is left of it.

  Raises:
    ValueError: if the points are not readable, or a run cannot be.
  """
  asked = points.list_points(config)
  if is_finished(config, workdir):
    return
  claim.start(config_lib.flatten(config), workdir)
  found = []
  try:
    with compilation.persistent_cache(workdir / 'compiled'):
      for number, point in enumerate(asked):
        _log.info('point %d of %d: %s', number + 1, len(asked), point.name)
        runs = points.runs(config, point, workdir)
        found.append(summaries.summarize(point, runs))
  except settings.Stopped:
    return
  finish(config, workdir, found)


def is_finished(config: ml_collections.ConfigDict, workdir: epath.Path) -> bool:
  """Whether all that is asked for is done; keys of `study` may have changed.

  Raises:
    ValueError: if the folder holds a run of another config.
  """
  if not claim.is_finished(config_lib.flatten(config), workdir):
    return False
  if files.read_json(workdir / files.RESULTS)['asked'] == _asked(config):
    return True
  _log.info('but the study has been changed; going on')
  return False


def _asked(config) -> dict[str, Any]:
  """The keys that may change when a study goes on."""
  return {
    key: value
    for key, value in config_lib.flatten(config).items()
    if key.startswith(('study.', 'data_study.'))
  }


def finish(
  config: ml_collections.ConfigDict,
  workdir: epath.Path,
  found: list[summaries.PointSummary],
  table: str = '',
) -> None:
  """Writes table, chart and results.

  Args:
    config: of the job.
    workdir: of it.
    found: all points.
    table: what stands before that of the points.

  Raises:
    ValueError: if a metric to draw was not measured.
  """
  across = config.study.across
  data = few_shot_evaluator.short_name(config.data.name)
  names = summaries.metrics_to_draw(config, found)
  of_points = summaries.table(found, across, names)
  text = '\n\n'.join(filter(None, [table, of_points]))
  _log.info('%s', text)
  files.write_text(workdir / 'table.txt', text + '\n')
  summaries.draw(
    workdir / files.STUDY_CHART,
    found,
    across,
    names,
    title=f'{data}: mean and deviation over the seeds',
  )
  seconds = sum(o.seeds * o.costs['seconds'] for o in found if o.costs)
  results.write(
    workdir,
    config.job,
    seconds=seconds,
    metrics={
      f'{outcome.name}/{key}': outcome.metrics[key]
      for outcome in found
      for name in names
      for key in (name, f'{name}_std')
      if key in outcome.metrics
    },
    drawn=names,
    points=summaries.as_json(found, across, names),
    asked=_asked(config),
  )
