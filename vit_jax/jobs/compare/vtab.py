"""VTAB-1k: fine-tuning on 19 small tasks, and the mean of what they reach.

One setting of hyper-parameters serves all tasks (section 4.1, Appendix B.1.1).
With a grid it is chosen as the paper's was: every setting trains on the 800
images of every task, and that with the highest mean accuracy on their 200
others is taken. It then trains on all 1,000, with several seeds, and is scored
on the whole test splits. Every run has a workdir of its own below the job's, so
that what was interrupted goes on with what is not finished.
"""

import logging
import statistics

from etils import epath
import ml_collections

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.data import source
from vit_jax.data import vtab_tasks as vtab_data
from vit_jax.distributed import compilation, processes
from vit_jax.evaluation import vtab_scores
from vit_jax.inspection import figures, study_charts
from vit_jax.jobs.compare import settings as settings_lib
from vit_jax.workdir import claim, console, files
from vit_jax.workdir import results as results_lib

_log = logging.getLogger(__name__)

METRIC = 'test/accuracy'

_GROUPS = {name: task.group for name, task in vtab_data.TASKS.items()}


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs all tasks, or what is left of them, and writes table and chart.

  Raises:
    ValueError: if data is missing (and `vtab.skip_missing` is not set), all of
      it in one message; or a run cannot be.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    missing = files.read_json(workdir / files.RESULTS)['missing']
    if not missing:
      return
    _log.info('but without %s; looking for them', ', '.join(missing))
  settings = settings_lib.settings(config)
  names = _names(config)
  _check_model(config, names[0])
  present, missing = _look_for_data(config, names)
  claim.start(config_lib.flatten(config), workdir)
  try:
    with compilation.persistent_cache(workdir / 'compiled'):
      scores = _compare(config, workdir, settings, present)
      chosen = settings_lib.best(scores) if scores else settings[0]
      _log.info('setting: %s', settings_lib.setting_name(chosen))
      # The choice may change when data is added; each has runs of its own.
      folder = (
        workdir / settings_lib.setting_name(chosen) if scores else workdir
      )
      results = _repeat(config, folder, chosen, present)
  except settings_lib.Stopped:
    return
  _finish(config, workdir, scores, chosen, results, missing)


def _names(config: ml_collections.ConfigDict) -> list[str]:
  """The tasks asked for, in the order of Table 9."""
  asked = [name.strip() for name in config.vtab.tasks.split(',')]
  asked = list(filter(None, asked)) or list(vtab_data.TASKS)
  for name in asked:
    vtab_data.find(name)
  return [name for name in vtab_data.TASKS if name in asked]


def _check_model(config, name):
  """Refuses a checkpoint or a model that cannot be, before any run."""
  start = build.load_weights(config)
  build.create_model(config, vtab_data.find(name).dataset.num_classes, start)


def _look_for_data(config, names):
  """Tasks with data and without; in the end one message about the latter."""
  reasons = {}
  for name in names:
    try:
      build.open_split(config, f'vtab:{name}', 'test')
    except source.NotPreparedError as error:
      reasons[name] = str(error)
  present = [name for name in names if name not in reasons]
  if reasons:
    message = '\n  '.join(
      [f'{len(reasons)} of {len(names)} tasks have no data:', *reasons.values()]
    )
    if not config.vtab.skip_missing or not present:
      message += '\nconfigs/prepare.py prepares what TFDS can.'
      if present:
        message += (
          f' To run the {len(present)} other tasks alone, set'
          ' vtab.skip_missing=true.'
        )
      raise ValueError(message)
    _log.warning('%s\nThey are left out.', message)
  return present, list(reasons)


def _config_of(config, setting, name):
  """The config of a run on one task."""
  task = vtab_data.find(name)
  own = settings_lib.run_config(config, setting)
  own.data.name = f'vtab:{name}'
  if not task.random_crop:
    own.data.crop = 'resize'
  own.data.flip = own.data.flip and task.flip
  return own


def _compare(config, workdir, settings, names):
  """Mean held-out scores by setting; none if there is nothing to choose."""
  if len(settings) == 1:
    return {}
  scores = {}
  for setting in settings:
    of_tasks = []
    for name in names:
      _log.info('trying %s on %s', settings_lib.setting_name(setting), name)
      folder = workdir / 'choose' / settings_lib.setting_name(setting) / name
      candidate = _config_of(config, setting, name)
      of_tasks.append(settings_lib.held_out_score(candidate, folder))
      settings_lib.clean(folder, keep_weights=config.vtab.keep_weights)
    diverged = None in of_tasks
    scores[setting] = None if diverged else statistics.fmean(of_tasks)
  return scores


def _repeat(config, folder, chosen, names):
  """Results of every seed, by task."""
  results = {name: [] for name in names}
  for place, name in enumerate(names):
    for number in range(config.sweep.seeds):
      final = _config_of(config, chosen, name)
      final.seed = config.seed + number
      _log.info(
        'task %d of %d, %s, seed %d', place + 1, len(names), name, final.seed
      )
      own = folder / name / f'seed-{final.seed}'
      results[name].append(settings_lib.run_or_read(final, own))
      settings_lib.clean(own, keep_weights=config.vtab.keep_weights)
  return results


def _finish(config, workdir, scores, chosen, results, missing) -> None:
  accuracies = {
    name: [100 * run_results['metrics'][METRIC] for run_results in of_task]
    for name, of_task in results.items()
  }
  of_seeds = [
    vtab_scores.means(dict(zip(accuracies, of_seed, strict=True)), _GROUPS)
    for of_seed in zip(*accuracies.values(), strict=True)
  ]
  means = {name: [m[name] for m in of_seeds] for name in of_seeds[0]}
  references = {
    model: _with_means({name: row[name] for name in accuracies})
    for model, row in vtab_scores.TABLE_9.items()
  }
  lines = [_table(accuracies, means, missing, references)]
  if scores:
    metric = f'mean {settings_lib.METRIC}'
    lines += ['', *settings_lib.score_lines(scores, chosen, metric)]
  table = '\n'.join(lines)
  _log.info('%s', table)
  files.write_text(workdir / 'table.txt', table + '\n')
  if processes.is_first():
    _draw(config, workdir / files.VTAB_CHART, means, accuracies, references)
  metrics = {}
  for name, values in (accuracies | means).items():
    fractions = [value / 100 for value in values]
    metrics |= settings_lib.mean_and_spread(f'vtab/{name}', fractions)
  runs = [
    run_results for of_task in results.values() for run_results in of_task
  ]
  results_lib.write(
    workdir,
    config.job,
    seconds=sum(run_results['seconds'] for run_results in runs),
    metrics=metrics,
    step=runs[0]['step'],
    missing=missing,
    scores={
      settings_lib.setting_name(setting): s for setting, s in scores.items()
    },
    chosen=dict(chosen),
  )


def _with_means(accuracies):
  return accuracies | vtab_scores.means(accuracies, _GROUPS)


def _table(accuracies, means, missing, references):
  """Per cent, in the order of Table 9, and what the paper reports."""
  rows = [['', 'accuracy', 'std', *references]]
  asked = [n for n in vtab_data.TASKS if n in accuracies or n in missing]
  for name in asked:
    title = vtab_data.TASKS[name].title
    rows.append([title, *_cells(name, accuracies, references)])
  for name in means:
    rows.append([_title(name, accuracies), *_cells(name, means, references)])
  table = console.table(rows)
  if len(accuracies) < len(vtab_data.TASKS):
    table += '\nMeans, of the paper too, are those of the tasks run here.'
  return table


def _title(name, accuracies):
  """Such as `VTAB (19)`, or `natural (3 of 7)`."""

  def count(tasks):
    return sum(name in (vtab_scores.SCORE, _GROUPS[task]) for task in tasks)

  have, all_ = count(accuracies), count(vtab_data.TASKS)
  title = 'VTAB' if name == vtab_scores.SCORE else name
  return f'{title} ({have})' if have == all_ else f'{title} ({have} of {all_})'


def _cells(name, values, references):
  if name not in values:
    return ['no data', *[''] * (len(references) + 1)]
  stats = settings_lib.mean_and_spread(name, values[name])
  spread = stats.get(f'{name}_std')
  return [
    f'{stats[name]:.2f}',
    '' if spread is None else f'{spread:.2f}',
    *(f'{row[name]:.2f}' for row in references.values()),
  ]


def _draw(config, path, means, accuracies, references):
  titles = {name: _title(name, accuracies) for name in means}
  seeds = config.sweep.seeds
  stats = {
    title: settings_lib.mean_and_spread('mean', means[name])
    for name, title in titles.items()
  }
  figure = study_charts.vtab_scores(
    {title: s['mean'] for title, s in stats.items()},
    {title: s['mean_std'] for title, s in stats.items()} if seeds > 1 else {},
    {
      model: {title: row[name] for name, title in titles.items()}
      for model, row in references.items()
    },
    title='VTAB-1k: mean accuracy over tasks'
    + (f', and its deviation over {seeds} seeds' if seeds > 1 else ''),
    label=config.model.name,
  )
  figures.save(figure, path)
  _log.info('%s shows the means', path)
