"""VTAB-1k: fine-tunes on 19 small tasks and reports their mean accuracy.

One setting of hyperparameters serves all tasks (section 4.1, Appendix B.1.1).
Given several settings, the job selects one as the paper does: each setting
trains on the 800 training images of every task, and the one with the highest
mean accuracy on the 200 validation images is selected. It then trains on all
1,000 images with several seeds and is scored on the complete test splits. Every
run has its own work directory below the job's, so an interrupted job resumes
with the runs that are not finished.
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
from vit_jax.evaluation import paper_tables, vtab_scores
from vit_jax.inspection import figures, study_charts
from vit_jax.jobs.compare import selection
from vit_jax.jobs.compare import settings as settings_lib
from vit_jax.workdir import claim, console, files
from vit_jax.workdir import results as results_lib

_log = logging.getLogger(__name__)

METRIC = 'test/accuracy'

_GROUPS = {name: task.group for name, task in vtab_data.TASKS.items()}


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs all tasks, or resumes them, and writes table and chart.

  Raises:
    ValueError: if a run is invalid, or data is missing and `vtab.skip_missing`
      is not set. The message lists all tasks without data.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    missing = files.read_json(workdir / files.RESULTS)['missing']
    if not missing:
      return
    _log.info('looking again for the data of %s', ', '.join(missing))
  candidates = settings_lib.settings(config)
  names = _requested_tasks(config)
  _check_splits(config, names, selects=len(candidates) > 1)
  _check_model(config, names[0])
  present, missing = _split_by_data(config, names)
  claim.start(config_lib.flatten(config), workdir)
  try:
    with compilation.persistent_cache(workdir / 'compiled'):
      selected, scores = selection.select(
        candidates,
        lambda setting: _mean_held_out_score(config, workdir, setting, present),
      )
      setting_name = settings_lib.setting_name(selected)
      _log.info('setting: %s', setting_name)
      # Another setting may be selected when data is added: each has its own
      # folder.
      folder = workdir / setting_name if scores else workdir
      results = _repeat(config, folder, selected, present)
  except settings_lib.Stopped:
    return
  _finish(config, workdir, scores, selected, results, missing)


def _requested_tasks(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the tasks of `vtab.tasks`, or all, in the order of Table 9."""
  names = config.vtab.tasks or vtab_data.TASKS
  for name in names:
    vtab_data.find(name)
  return [name for name in vtab_data.TASKS if name in names]


def _check_splits(config, names, *, selects):
  """Rejects unknown splits, and a missing test split, before any run starts."""
  evals = config_lib.eval_splits(config)
  if METRIC.partition('/')[0] not in evals:
    raise ValueError(
      f'data.eval={config.data.eval!r}: the score is {METRIC}; name one of the'
      ' splits test, as in test=test.'
    )
  splits = {config.data.train, *evals.values()}
  if selects:
    splits |= {config.sweep.train, config.sweep.val}
  for name in names:
    known = vtab_data.find(name).splits
    if unknown := sorted(splits - set(known)):
      raise ValueError(
        f'vtab:{name} has no split {unknown[0]!r}; set data.train, data.eval,'
        f' sweep.train and sweep.val to some of {", ".join(known)}.'
      )


def _check_model(config, task_name):
  """Rejects an invalid checkpoint or model before any run starts."""
  initial = build.load_weights(config)
  num_classes = vtab_data.find(task_name).dataset.num_classes
  build.create_model(config, num_classes, initial)


def _split_by_data(config, names):
  """Returns the tasks whose data is present, and those whose data is missing.

  Raises:
    ValueError: if tasks lack data and are not to be skipped, or all lack it.
  """
  reasons = {}
  for name in names:
    try:
      build.open_split(config, f'vtab:{name}', 'test')
    except source.NotPreparedError as error:
      reasons[name] = str(error)
  present = [name for name in names if name not in reasons]
  if reasons:
    message = '\n  '.join(
      [
        f'{len(reasons)} of {len(names)} tasks have no data:',
        *reasons.values(),
      ]
    )
    if not config.vtab.skip_missing or not present:
      message += '\nconfigs/prepare.py prepares the data that TFDS can prepare.'
      if present:
        message += (
          f' To skip these tasks and run the rest ({len(present)}), set'
          ' vtab.skip_missing=true.'
        )
      raise ValueError(message)
    _log.warning('%s\nSkipping them.', message)
  return present, list(reasons)


def _task_config(config, setting, name):
  """Returns the config of a run on one task."""
  task = vtab_data.find(name)
  config = settings_lib.run_config(config, setting)
  config.data.name = f'vtab:{name}'
  if not task.random_crop:
    config.data.crop = 'resize'
  config.data.flip = config.data.flip and task.flip
  return config


def _mean_held_out_score(config, workdir, setting, names):
  """Returns the mean held-out accuracy over tasks; None if a run diverged."""
  setting_name = settings_lib.setting_name(setting)
  scores = []
  for name in names:
    _log.info('trying %s on %s', setting_name, name)
    folder = workdir / 'choose' / setting_name / name
    run_config = _task_config(config, setting, name)
    scores.append(selection.held_out_score(run_config, folder))
    settings_lib.clean(folder, keep_weights=config.vtab.keep_weights)
  return None if None in scores else statistics.fmean(scores)


def _repeat(config, folder, setting, names):
  """Returns the results of every seed, by task."""
  results = {name: [] for name in names}
  for number, name in enumerate(names, start=1):
    for seed in selection.seeds(config):
      run_config = _task_config(config, setting, name)
      run_config.seed = seed
      _log.info('task %d of %d: %s, seed %d', number, len(names), name, seed)
      run_folder = folder / name / f'seed-{seed}'
      results[name].append(settings_lib.run_or_read(run_config, run_folder))
      settings_lib.clean(run_folder, keep_weights=config.vtab.keep_weights)
  return results


def _finish(config, workdir, scores, selected, results, missing) -> None:
  tasks = list(results)
  repeats = [
    _with_means(
      {
        name: 100 * run_results['metrics'][METRIC]
        for name, run_results in zip(tasks, of_seed, strict=True)
      }
    )
    for of_seed in zip(*results.values(), strict=True)
  ]
  percent = selection.mean_and_std(repeats)
  references = {
    model: _with_means({name: row[name] for name in tasks})
    for model, row in vtab_scores.TABLE_9.items()
  }
  table = _table(tasks, percent, missing, references)
  if scores:
    metric = f'mean {config_lib.held_out_metric(config)}'
    table += '\n\n' + selection.score_table(scores, selected, metric)
  _log.info('%s', table)
  files.write_text(workdir / files.TABLE, table + '\n')
  if processes.is_first():
    _draw(config, workdir / files.VTAB_CHART, tasks, percent, references)
  runs = [
    run_results for of_task in results.values() for run_results in of_task
  ]
  seconds = sum(run_results['seconds'] for run_results in runs)
  results_lib.write(
    workdir,
    config.job,
    seconds=seconds,
    metrics=selection.mean_and_std(
      [
        {f'vtab/{name}': value / 100 for name, value in repeat.items()}
        for repeat in repeats
      ]
    ),
    step=runs[0]['step'],
    missing=missing,
    scores=selection.by_name(scores),
    chosen=settings_lib.as_texts(selected),
  )


def _with_means(accuracies):
  return accuracies | vtab_scores.means(accuracies, _GROUPS)


def _mean_names(tasks, names):
  """Returns those of `names` that are neither tasks nor deviations."""
  return [n for n in names if n not in tasks and not n.endswith('_std')]


def _table(tasks, percent, missing, references):
  """Returns accuracies in per cent beside the paper's, as in Table 9."""
  rows = [['', 'accuracy', 'std', *references]]
  for name in vtab_data.TASKS:
    title = vtab_data.TASKS[name].title
    if name in tasks:
      rows.append([title, *_cells(name, percent, references)])
    elif name in missing:
      rows.append([title, 'no data', *[''] * (len(references) + 1)])
  for name in _mean_names(tasks, percent):
    rows.append([_title(name, tasks), *_cells(name, percent, references)])
  table = console.table(rows)
  if len(tasks) < len(vtab_data.TASKS):
    table += "\nMeans, including the paper's, are over the tasks run here."
  return table


def _title(name, tasks):
  """Returns the title of a mean, such as `VTAB (19)` or `natural (3 of 7)`."""

  def count(names):
    return sum(name in (vtab_scores.SCORE, _GROUPS[task]) for task in names)

  present, total = count(tasks), count(vtab_data.TASKS)
  title = 'VTAB' if name == vtab_scores.SCORE else name
  if present == total:
    return f'{title} ({total})'
  return f'{title} ({present} of {total})'


def _cells(name, percent, references):
  std = percent.get(f'{name}_std')
  return [
    f'{percent[name]:.2f}',
    '' if std is None else f'{std:.2f}',
    *(f'{row[name]:.2f}' for row in references.values()),
  ]


def _draw(config, path, tasks, percent, references):
  titles = {name: _title(name, tasks) for name in _mean_names(tasks, percent)}
  stds = {
    title: percent[f'{name}_std']
    for name, title in titles.items()
    if f'{name}_std' in percent
  }
  if len(tasks) == len(vtab_data.TASKS):
    bit = {vtab_scores.SCORE: paper_tables.BIT_L_VTAB}
    references = references | {'BiT-L JFT': bit}
  seeds = config.sweep.seeds
  figure = study_charts.vtab_scores(
    {title: percent[name] for name, title in titles.items()},
    stds,
    {
      model: {titles[name]: row[name] for name in titles if name in row}
      for model, row in references.items()
    },
    title='VTAB-1k: mean accuracy over tasks'
    + (f', with standard deviation over {seeds} seeds' if stds else ''),
    label=config.model.name,
  )
  figures.save(figure, path)
  _log.info('%s shows the means', path)
