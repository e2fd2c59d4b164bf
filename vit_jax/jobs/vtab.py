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

from vit_jax import report
from vit_jax.data import examples
from vit_jax.data import vtab as vtab_data
from vit_jax.distributed import compilation, processes
from vit_jax.evaluation import vtab_scores
from vit_jax.inspection import vtab_chart
from vit_jax.jobs import assemble, grid, workdirs

_log = logging.getLogger(__name__)

METRIC = 'test/accuracy'
CHART = 'vtab.png'

_GROUPS = {name: task.group for name, task in vtab_data.TASKS.items()}


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Runs all tasks, or what is left of them, and writes table and chart.

  Raises:
    ValueError: if data is missing (and `vtab.skip_missing` is not set), all of
      it in one message; or a run cannot be.
  """
  if workdirs.is_finished(config, workdir):
    missing = workdirs.read(workdir / report.RESULTS)['missing']
    if not missing:
      return
    _log.info('but without %s; looking for them', ', '.join(missing))
  settings = grid.settings(config)
  names = _names(config)
  _check_model(config, names[0])
  present, missing = _look_for_data(config, names)
  workdirs.claim(config, workdir)
  try:
    with compilation.shared(workdir / 'compiled'):
      scores = _compare(config, workdir, settings, present)
      chosen = grid.best(scores) if scores else settings[0]
      _log.info('setting: %s', grid.name(chosen))
      # The choice may change when data is added; each has runs of its own.
      folder = workdir / grid.name(chosen) if scores else workdir
      results = _repeat(config, folder, chosen, present)
  except grid.Stopped:
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
  start = assemble.weights(config)
  assemble.model(config, vtab_data.find(name).dataset.num_classes, start)


def _look_for_data(config, names):
  """Tasks with data and without; in the end one message about the latter."""
  reasons = {}
  for name in names:
    try:
      assemble.open_split(config, f'vtab:{name}', 'test')
    except examples.NotPreparedError as error:
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
  own = grid.config_of(config, setting)
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
      _log.info('trying %s on %s', grid.name(setting), name)
      folder = workdir / 'choose' / grid.name(setting) / name
      candidate = _config_of(config, setting, name)
      of_tasks.append(grid.held_out_score(candidate, folder))
      grid.clean(folder, keep_weights=config.vtab.keep_weights)
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
      results[name].append(grid.results_of(final, own))
      grid.clean(own, keep_weights=config.vtab.keep_weights)
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
    metric = f'mean {grid.METRIC}'
    lines += ['', *grid.score_lines(scores, chosen, metric)]
  table = '\n'.join(lines)
  _log.info('%s', table)
  report.write_text(workdir / 'table.txt', table + '\n')
  if processes.is_first():
    _draw(config, workdir / CHART, means, accuracies, references)
  metrics = {}
  for name, values in (accuracies | means).items():
    fractions = [value / 100 for value in values]
    metrics |= grid.mean_and_spread(f'vtab/{name}', fractions)
  runs = [
    run_results for of_task in results.values() for run_results in of_task
  ]
  seconds = sum(run_results['seconds'] for run_results in runs)
  report.write_json(
    workdir / report.RESULTS,
    {
      'job': config.job,
      'step': runs[0]['step'],
      'seconds': seconds,
      **report.device_use(seconds),
      'metrics': metrics,
      'missing': missing,
      'scores': {grid.name(setting): s for setting, s in scores.items()},
      'chosen': dict(chosen),
    },
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
  table = report.table(rows)
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
  stats = grid.mean_and_spread(name, values[name])
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
    title: grid.mean_and_spread('mean', means[name])
    for name, title in titles.items()
  }
  vtab_chart.draw(
    path,
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
  _log.info('%s shows the means', path)
