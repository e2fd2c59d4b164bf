"""Chooses hyper-parameters on held-out data, then repeats the chosen ones.

As Appendix B.1.1 has it: the runs of a grid train on a part of the training
split and are compared on the rest; the best setting then trains on all of it,
with several seeds, and its test scores are reported as mean and standard
deviation. Every run is one of the job `sweep.job`, in a workdir of its own
below the sweep's, so that a sweep that was interrupted goes on where it was.
"""

import itertools
import json
import logging
import statistics
import time

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax import report
from vit_jax.jobs import finetune, pretrain, workdirs
from vit_jax.training import loop

_log = logging.getLogger(__name__)

RUN_JOBS = {'finetune': finetune.run, 'pretrain': pretrain.run}
METRIC = 'val/accuracy'

Setting = tuple[tuple[str, str], ...]  # Keys and what they are set to.


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs the sweep, or what is left of it, and writes its table.

  Raises:
    ValueError: if the grid is not readable, or a run cannot be.
  """
  if workdirs.is_finished(config, workdir):
    return
  begin = time.perf_counter()
  settings = _settings(config)
  for setting in settings:
    config_lib.check(_config_of(config, setting))
  workdirs.claim(config, workdir)

  scores = {}
  if len(settings) > 1:
    for setting in settings:
      _log.info('trying %s', _name(setting))
      candidate = _config_of(config, setting)
      candidate.best_metric = ''
      candidate.data.train = config.sweep.train
      candidate.data.eval = f'val={config.sweep.val}'
      folder = workdir / 'choose' / _name(setting)
      try:
        results = _results_of(candidate, folder)
      except loop.NonFiniteError as error:
        _log.warning('%s diverged: %s', _name(setting), error)
        scores[setting] = None
        continue
      if results is None:
        return
      scores[setting] = results['metrics'][METRIC]
  chosen = _best(scores) if scores else settings[0]
  _log.info('chosen: %s', _name(chosen))

  repeats = []
  for number in range(config.sweep.seeds):
    final = _config_of(config, chosen)
    final.seed = config.seed + number
    _log.info('%s with seed %d', _name(chosen), final.seed)
    results = _results_of(final, workdir / 'repeat' / f'seed-{final.seed}')
    if results is None:
      return
    repeats.append(results)
  _finish(config, workdir, scores, chosen, repeats, begin)


def _settings(config: ml_collections.ConfigDict) -> list[Setting]:
  """All combinations of the grid, then the runs of `sweep.also`."""
  axes = []
  for axis in config.sweep.grid.split():
    key, equals, values = axis.partition('=')
    if not equals or not values:
      raise ValueError(
        f'sweep.grid={config.sweep.grid!r}: {axis!r} is not KEY=A|B|C, such as'
        ' optim.lr=0.01|0.03.'
      )
    axes.append([(key, value) for value in values.split('|')])
  settings = list(itertools.product(*axes))
  for item in filter(None, map(str.strip, config.sweep.also.split(';'))):
    pairs = tuple(tuple(pair.split('=', 1)) for pair in item.split())
    if any(len(pair) != 2 for pair in pairs):
      raise ValueError(
        f'sweep.also={config.sweep.also!r}: {item!r} is not KEY=VALUE pairs'
        ' separated by blanks.'
      )
    settings.append(pairs)
  return settings


def _config_of(
  config: ml_collections.ConfigDict, setting: Setting
) -> ml_collections.ConfigDict:
  """The sweep's config as that of one run."""
  own = config.copy_and_resolve_references()
  own.job = config.sweep.job
  for key, value in setting:
    config_lib.set_key(own, key, value)
  return own


def _name(setting: Setting) -> str:
  return ','.join(f'{key}={value}' for key, value in setting) or 'as-given'


def _results_of(
  config: ml_collections.ConfigDict, folder: epath.Path
) -> dict | None:
  """Results of a run, old or new; None if it was asked to stop."""
  RUN_JOBS[config.job](config, folder)
  path = folder / report.RESULTS
  return json.loads(path.read_text()) if path.exists() else None


def _best(scores: dict[Setting, float | None]) -> Setting:
  """The setting with the highest score; of equals the first."""
  finite = {setting: s for setting, s in scores.items() if s is not None}
  if not finite:
    raise ValueError(
      f'all {len(scores)} runs of the grid diverged; try lower learning rates,'
      ' or optim.clip_norm=1.'
    )
  return max(finite, key=finite.get)


def _finish(config, workdir, scores, chosen, repeats, begin) -> None:
  metrics = {}
  for name in repeats[0]['metrics']:
    values = [results['metrics'][name] for results in repeats]
    metrics[name] = statistics.fmean(values)
    if len(values) > 1:
      metrics[f'{name}_std'] = statistics.stdev(values)
  lines = [f'{METRIC:>14}  setting']
  for setting, score in scores.items():
    mark = '  <- chosen' if setting == chosen else ''
    text = 'diverged' if score is None else f'{score:.4f}'
    lines.append(f'{text:>14}  {_name(setting)}{mark}')
  lines += ['', f'{_name(chosen)}, {len(repeats)} seeds:']
  for name in metrics:
    if not name.endswith('_std'):
      spread = metrics.get(f'{name}_std')
      lines.append(
        f'{metrics[name]:14.4f}  {name}'
        + ('' if spread is None else f' (standard deviation {spread:.4f})')
      )
  table = '\n'.join(lines)
  _log.info('%s', table)
  (workdir / 'table.txt').write_text(table + '\n')
  report.write_json(
    workdir / report.RESULTS,
    {
      'job': config.job,
      'step': repeats[0]['step'],
      'seconds': time.perf_counter() - begin,
      'metrics': metrics,
      'scores': {_name(setting): score for setting, score in scores.items()},
      'chosen': dict(chosen),
    },
  )
