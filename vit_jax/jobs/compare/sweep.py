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

from vit_jax import config as config_lib
from vit_jax.distributed import compilation
from vit_jax.jobs.compare import settings as settings_lib
from vit_jax.workdir import claim, files, results

_log = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs the sweep, or what is left of it, and writes its table.

  Raises:
    ValueError: if the grid is not readable, or a run cannot be.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  begin = time.perf_counter()
  settings = settings_lib.settings(config)
  claim.start(config_lib.flatten(config), workdir)
  try:
    with compilation.persistent_cache(workdir / 'compiled'):
      scores = _compare(config, workdir, settings)
      chosen = settings_lib.best(scores) if scores else settings[0]
      _log.info('chosen: %s', settings_lib.setting_name(chosen))
      repeats = _repeat(config, workdir, chosen)
  except settings_lib.Stopped:
    return
  _finish(config, workdir, scores, chosen, repeats, begin)


def _compare(config, workdir, settings):
  """Scores on held-out data by setting; none if there is nothing to choose."""
  if len(settings) == 1:
    return {}
  scores = {}
  for setting in settings:
    _log.info('trying %s', settings_lib.setting_name(setting))
    scores[setting] = settings_lib.held_out_score(
      settings_lib.run_config(config, setting),
      workdir / 'choose' / settings_lib.setting_name(setting),
    )
  return scores


def _repeat(config, workdir, chosen):
  """Results of the chosen setting with every seed."""
  repeats = []
  for number in range(config.sweep.seeds):
    final = settings_lib.run_config(config, chosen)
    final.seed = config.seed + number
    _log.info('%s with seed %d', settings_lib.setting_name(chosen), final.seed)
    folder = workdir / 'repeat' / f'seed-{final.seed}'
    repeats.append(settings_lib.run_or_read(final, folder))
  return repeats


def _finish(config, workdir, scores, chosen, repeats, begin) -> None:
  metrics = {}
  for name in repeats[0]['metrics']:
    values = [run_results['metrics'][name] for run_results in repeats]
    metrics |= settings_lib.mean_and_spread(name, values)
  lines = settings_lib.score_lines(scores, chosen, settings_lib.METRIC)
  lines += ['', f'{settings_lib.setting_name(chosen)}, {len(repeats)} seeds:']
  for name in metrics:
    if not name.endswith('_std'):
      spread = metrics.get(f'{name}_std')
      lines.append(
        f'{metrics[name]:14.4f}  {name}'
        + ('' if spread is None else f' (standard deviation {spread:.4f})')
      )
  table = '\n'.join(lines)
  _log.info('%s', table)
  files.write_text(workdir / 'table.txt', table + '\n')
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    on_devices=False,
    metrics=metrics,
    step=repeats[0]['step'],
    scores={
      settings_lib.setting_name(setting): score
      for setting, score in scores.items()
    },
    chosen=dict(chosen),
  )
