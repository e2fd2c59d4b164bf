"""Chooses hyper-parameters on held-out data, then repeats the chosen ones.

As Appendix B.1.1 has it: the runs of a grid train on a part of the training
split and are compared on the rest; the best setting then trains on all of it,
with several seeds, and its test scores are reported as mean and standard
deviation. Every run is one of the job `sweep.job`, in a workdir of its own
below the sweep's, so that a sweep that was interrupted goes on where it was.
"""

import logging
import time

from etils import epath
import ml_collections

from vit_jax import report
from vit_jax.distributed import compilation
from vit_jax.jobs import grid, workdirs

_log = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs the sweep, or what is left of it, and writes its table.

  Raises:
    ValueError: if the grid is not readable, or a run cannot be.
  """
  if workdirs.is_finished(config, workdir):
    return
  begin = time.perf_counter()
  settings = grid.settings(config)
  workdirs.claim(config, workdir)
  try:
    with compilation.shared(workdir / 'compiled'):
      scores = _compare(config, workdir, settings)
      chosen = grid.best(scores) if scores else settings[0]
      _log.info('chosen: %s', grid.name(chosen))
      repeats = _repeat(config, workdir, chosen)
  except grid.Stopped:
    return
  _finish(config, workdir, scores, chosen, repeats, begin)


def _compare(config, workdir, settings):
  """Scores on held-out data by setting; none if there is nothing to choose."""
  if len(settings) == 1:
    return {}
  scores = {}
  for setting in settings:
    _log.info('trying %s', grid.name(setting))
    scores[setting] = grid.held_out_score(
      grid.config_of(config, setting), workdir / 'choose' / grid.name(setting)
    )
  return scores


def _repeat(config, workdir, chosen):
  """Results of the chosen setting with every seed."""
  repeats = []
  for number in range(config.sweep.seeds):
    final = grid.config_of(config, chosen)
    final.seed = config.seed + number
    _log.info('%s with seed %d', grid.name(chosen), final.seed)
    folder = workdir / 'repeat' / f'seed-{final.seed}'
    repeats.append(grid.results_of(final, folder))
  return repeats


def _finish(config, workdir, scores, chosen, repeats, begin) -> None:
  metrics = {}
  for name in repeats[0]['metrics']:
    values = [results['metrics'][name] for results in repeats]
    metrics |= grid.mean_and_spread(name, values)
  lines = grid.score_lines(scores, chosen, grid.METRIC)
  lines += ['', f'{grid.name(chosen)}, {len(repeats)} seeds:']
  for name in metrics:
    if not name.endswith('_std'):
      spread = metrics.get(f'{name}_std')
      lines.append(
        f'{metrics[name]:14.4f}  {name}'
        + ('' if spread is None else f' (standard deviation {spread:.4f})')
      )
  table = '\n'.join(lines)
  _log.info('%s', table)
  report.write_text(workdir / 'table.txt', table + '\n')
  report.write_json(
    workdir / report.RESULTS,
    {
      'job': config.job,
      'step': repeats[0]['step'],
      'seconds': time.perf_counter() - begin,
      'metrics': metrics,
      'scores': {
        grid.name(setting): score for setting, score in scores.items()
      },
      'chosen': dict(chosen),
    },
  )
