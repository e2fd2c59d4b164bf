"""Sections of jobs that compare: sweeps, VTAB, studies, few-shot, inference."""

from collections.abc import Mapping
import functools
import math
from urllib import parse

from vit_jax import config as config_lib
from vit_jax.data import vtab_tasks as vtab_data
from vit_jax.evaluation import inference_table, vtab_scores
from vit_jax.page import charts, content, metric_parts
from vit_jax.workdir import console, files, finished_run

_MAX_METRICS = 4  # Columns of metrics in a table of runs.


def sweep(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns the scores of the settings, and the runs with their curves."""
  runs = _runs_below(run)
  events = {name: child.events for name, child in runs.items()}
  return [*_choice(run), _run_table(runs), *metric_parts.compared(events)]


def vtab(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns the accuracy of each task, their means, and those of Table 9."""
  tasks = [name for name in vtab_data.TASKS if f'vtab/{name}' in run.metrics]
  groups = {name: vtab_data.TASKS[name].group for name in tasks}

  def with_means(row):
    """Returns the accuracies of the tasks and their means, by title."""
    row = {name: row[name] for name in tasks}
    row |= vtab_scores.means(row, groups)
    return {_title(name): value for name, value in row.items()}

  percent = {
    name.removeprefix('vtab/'): 100 * value
    for name, value in run.metrics.items()
  }
  values = with_means(percent)
  spreads = {
    _title(name.removesuffix('_std')): value
    for name, value in percent.items()
    if name.endswith('_std')
  }
  references = {
    model: with_means(row) for model, row in vtab_scores.TABLE_9.items()
  }
  rows = [
    (
      name,
      f'{value:.2f}',
      f'{spreads[name]:.2f}' if name in spreads else '',
      *(f'{row[name]:.2f}' for row in references.values()),
    )
    for name, value in values.items()
  ]
  rows += [
    (_title(name), 'no data', *[''] * (1 + len(references)))
    for name in run.results['missing']
  ]

  bars = functools.partial(charts.bars, spreads=spreads, marks=references)
  of_tasks = dict(list(values.items())[: len(tasks)])
  of_means = dict(list(values.items())[len(tasks) :])
  return [
    content.Text(
      'Accuracy in per cent on the full test splits, beside the values of Table'
      f' 9 of the paper. All means are over the {len(tasks)} tasks of this run.'
    ),
    content.Table(
      ('task', 'accuracy', 'std', *references), rows, shown=len(rows)
    ),
    content.Charts(
      [
        bars('mean accuracy on VTAB and its groups', of_means),
        bars('accuracy on each VTAB task', of_tasks),
      ]
    ),
    *_choice(run),
    _run_table(_runs_below(run), shown=0),
  ]


def study(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns the costs and accuracies in `table.txt`, and the runs."""
  return [
    content.Code(run.text(files.TABLE)),
    _run_table(_runs_below(run), shown=0),
  ]


def headlines(run: finished_run.FinishedRun) -> Mapping[str, float]:
  """Returns the candidates for headlines: for VTAB, only the means."""
  return {
    name: value
    for name, value in run.metrics.items()
    if name.removeprefix('vtab/') not in vtab_data.TASKS
  }


def _title(name: str) -> str:
  if name == vtab_scores.SCORE:
    return 'VTAB'
  task = vtab_data.TASKS.get(name)
  return task.title if task else name


def few_shot(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns few-shot accuracy by the number of examples per class."""
  lines = {
    name: sorted(
      (int(shots), sum(values) / len(values))
      for shots, values in by_shots.items()
    )
    for name, by_shots in run.results['accuracies'].items()
  }
  title = 'few-shot accuracy, mean over draws'
  chart = charts.curves(
    title, lines, across='examples per class', log_across=True
  )
  return [content.Charts([chart])]


def inference(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns images per second and the largest batches, as in Figure 12."""
  points = run.results['points']
  parts = [content.Table(inference_table.HEAD, inference_table.rows(points))]
  parts += [content.Text(text) for text in inference_table.notes(points)]
  drawn = []
  for title, key in inference_table.PANELS.items():
    if lines := inference_table.lines(points, key):
      drawn.append(
        charts.curves(
          title, lines, across='image size [px]', log_across=True, log_up=True
        )
      )
  return [*parts, content.Charts(drawn)] if drawn else parts


def _choice(run) -> list[content.Part]:
  """Returns the held-out scores, if several settings were compared."""
  scores: Mapping[str, float | None] = run.results.get('scores', {})
  if not scores:
    return []
  chosen = ','.join(f'{k}={v}' for k, v in run.results['chosen'].items())
  rows = [
    (
      setting,
      'diverged' if score is None else content.Bar(score),
      'chosen' if setting == chosen else '',
    )
    for setting, score in scores.items()
  ]
  metric = config_lib.held_out_metric(run.config).removeprefix('val/')
  title = f'held-out {metric}'
  parts = [content.Table(('setting', title, ''), rows, folded='more settings')]
  if chart := _scores_chart(title, scores):
    parts.append(content.Charts([chart]))
  return parts


def _scores_chart(title, scores) -> content.Picture | None:
  """Draws scores over a numeric key, one line per setting of the others."""
  settings = [
    dict(pair.split('=', 1) for pair in setting.split(',') if '=' in pair)
    for setting in scores
  ]
  keys = dict.fromkeys(name for setting in settings for name in setting)
  across = next((key for key in keys if _all_numbers(settings, key)), None)
  if across is None:
    return None
  lines = {}
  for setting, score in zip(settings, scores.values(), strict=True):
    if score is not None:
      value = float(setting.pop(across))
      rest = ', '.join(f'{k}={v}' for k, v in setting.items())
      lines.setdefault(rest, []).append((value, score))
  if len(lines) > charts.MAX_LINES:
    return None
  return charts.curves(
    title,
    {name: sorted(points) for name, points in lines.items()},
    across=across,
    log_across=all(x > 0 for points in lines.values() for x, _ in points),
  )


def _all_numbers(settings, key) -> bool:
  try:
    values = {float(setting[key]) for setting in settings}
  except (KeyError, ValueError):
    return False
  return all(map(math.isfinite, values)) and len(values) > 1


def _runs_below(run) -> dict[str, finished_run.FinishedRun]:
  """Returns the runs in subfolders of this one, by relative path."""
  return {
    str(child.workdir.relative_to(run.workdir)): child for child in run.children
  }


def _run_table(runs, shown=20) -> content.Table:
  """Returns one row per run, with a link to its page."""
  names = list(dict.fromkeys(n for r in runs.values() for n in r.metrics))
  names = list(filter(metric_parts.is_main, names))[:_MAX_METRICS]
  rows = [
    (
      content.Link(folder, f'{parse.quote(folder)}/{files.PAGE}'),
      *(
        charts.number(run.metrics[name]) if name in run.metrics else ''
        for name in names
      ),
      console.duration(run.results['seconds']),
    )
    for folder, run in runs.items()
  ]
  head = ('run', *names, 'time')
  return content.Table(head, rows, shown=shown, folded='runs')
