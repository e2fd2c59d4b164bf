"""Selects hyperparameters on held-out data and repeats the best setting.

The protocol of Appendix B.1.1: each setting trains on a part of the training
split and is scored on the rest; the best one then trains on the whole split
with several seeds. The mean and standard deviation of its test metrics are
reported. Settings are scored by accuracy, or by the metric that `best_metric`
names. Every run is a run of the job `sweep.job` with a work directory of its
own below the sweep's, so an interrupted sweep resumes where it stopped.
"""

import logging
import time

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.distributed import compilation
from vit_jax.jobs.compare import selection
from vit_jax.jobs.compare import settings as settings_lib
from vit_jax.workdir import claim, files
from vit_jax.workdir import results as results_lib

_log = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs the sweep, or resumes it, and writes its table.

  Raises:
    ValueError: if the settings are malformed, a run is invalid or all diverge.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  begin = time.perf_counter()
  metric = config_lib.held_out_metric(config)
  candidates = settings_lib.settings(config)
  configs = [settings_lib.run_config(config, setting) for setting in candidates]
  if len(candidates) > 1:
    held_out = [selection.held_out_config(c) for c in configs]
    for held_out_config in held_out:
      held_out_config.best_metric = metric  # Checks that it is measured.
    configs += held_out
  settings_lib.check_data((c, workdir) for c in configs)
  claim.start(config_lib.flatten(config), workdir)

  def score(setting):
    name = settings_lib.setting_name(setting)
    _log.info('trying %s', name)
    run_config = settings_lib.run_config(config, setting)
    return selection.held_out_score(run_config, workdir / 'choose' / name)

  try:
    with compilation.persistent_cache(workdir / 'compiled'):
      selected, scores = selection.select(candidates, score)
      _log.info('selected: %s', settings_lib.setting_name(selected))
      repeats = _repeat(config, workdir, selected)
  except settings_lib.Stopped:
    return
  metrics = selection.mean_and_std([results['metrics'] for results in repeats])
  table = _table(scores, selected, metric, metrics, len(repeats))
  _log.info('%s', table)
  files.write_text(workdir / files.TABLE, table + '\n')
  results_lib.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    on_devices=False,
    metrics=metrics,
    step=repeats[0]['step'],
    scores=selection.by_name(scores),
    chosen=settings_lib.as_texts(selected),
  )


def _repeat(config, workdir, setting):
  """Returns the results of a setting with every seed."""
  repeats = []
  for seed in selection.seeds(config):
    run_config = settings_lib.run_config(config, setting)
    run_config.seed = seed
    _log.info('%s with seed %d', settings_lib.setting_name(setting), seed)
    folder = workdir / 'repeat' / f'seed-{seed}'
    repeats.append(settings_lib.run_or_read(run_config, folder))
  return repeats


def _table(scores, selected, held_out_metric, metrics, num_seeds):
  lines = [
    selection.score_table(scores, selected, held_out_metric),
    '',
    f'{settings_lib.setting_name(selected)},'
    f' {num_seeds} {"seed" if num_seeds == 1 else "seeds"}:',
  ]
  for name, mean in metrics.items():
    if not name.endswith('_std'):
      std = metrics.get(f'{name}_std')
      suffix = '' if std is None else f' (standard deviation {std:.4f})'
      lines.append(f'{mean:14.4f}  {name}{suffix}')
  return '\n'.join(lines)
