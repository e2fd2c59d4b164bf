"""Tables and charts of jobs that compare: sweeps, VTAB, few-shot accuracy."""

from collections.abc import Mapping
import math
from urllib import parse

from vit_jax.data import vtab_tasks as vtab_data
from vit_jax.evaluation import inference_table, vtab_scores
from vit_jax.page import charts, content, metric_parts
from vit_jax.workdir import console, files, finished_run

_MOST_COLUMNS = 4  # Of metrics, beside the names of runs.


def sweep(run: finished_run.FinishedRun) -> list[content.Part]:
  """Scores of the settings, and the runs with their curves."""
  runs = _runs_of(run)
  events = {name: other.events for name, other in runs.items()}
  return [*_choice(run), _table_of(runs), *metric_parts.compared(events)]


def vtab(run: finished_run.FinishedRun) -> list[content.Part]:
  """Accuracies of the tasks beside those of Table 9, and their means."""
  tasks = [name for name in vtab_data.TASKS if f'vtab/{name}' in run.metrics]
  groups = {name: vtab_data.TASKS[name].group for name in tasks}

  def with_means(row):
    row = {name: row[name] for name in tasks}
    return row | vtab_scores.means(row, groups)

  values = with_means(
    {name: 100 * run.metrics[f'vtab/{name}'] for name in tasks}
  )
  spreads = {
    name: 100 * run.metrics[f'vtab/{name}_std']
    for name in values
    if f'vtab/{name}_std' in run.metrics
  }
  references = {
    model: with_means(row) for model, row in vtab_scores.TABLE_9.items()
  }
  rows = [
    (
      _title(name),
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

  def bars(title, names):
    return charts.bars(
      title,
      {_title(name): values[name] for name in names},
      spreads={_title(name): spread for name, spread in spreads.items()},
      marks={
        model: {_title(name): row[name] for name in names}
        for model, row in references.items()
      },
    )

  return [
    content.Text(
      'Accuracy in per cent, on the whole test splits, beside what Table 9 of'
      f' the paper reports. All means are over the {len(tasks)} tasks run here.'
    ),
    content.Table(
      ('task', 'accuracy', 'std', *references), rows, shown=len(rows)
    ),
    content.Charts(
      [
        bars(
          'mean accuracy of VTAB and of its groups',
          [name for name in values if name not in tasks],
        ),
        bars('accuracy of each task of VTAB', tasks),
      ]
    ),
    *_choice(run),
    _table_of(_runs_of(run), shown=0),
  ]


def study(run: finished_run.FinishedRun) -> list[content.Part]:
  """What the points cost and reached, as in `table.txt`, and the runs."""
  text = (run.workdir / 'table.txt').read_text()
  return [content.Code(text), _table_of(_runs_of(run), shown=0)]


def headlines(run: finished_run.FinishedRun) -> Mapping[str, float]:
  """The metrics to choose the main numbers from; of VTAB the means."""
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
  """Accuracy by the number of examples of a class."""
  lines = {
    name: sorted(
      (int(shots), sum(values) / len(values))
      for shots, values in by_shots.items()
    )
    for name, by_shots in run.results['accuracies'].items()
  }
  lines = dict(list(lines.items())[: charts.MOST_LINES])
  return [
    content.Charts(
      [
        charts.curves(
          'few-shot accuracy, mean of draws',
          lines,
          across='examples a class',
          log_across=True,
        )
      ]
    )
  ]


def inference(run: finished_run.FinishedRun) -> list[content.Part]:
  """Images a second and the largest batches, as Figure 12."""
  points = run.results['points']
  parts = [content.Table(inference_table.HEAD, inference_table.rows(points))]
  parts += [content.Text(text) for text in inference_table.notes(points)]
  drawn = []
  for title, key in inference_table.PANELS.items():
    lines = inference_table.lines(points, key)
    lines = dict(list(lines.items())[: charts.MOST_LINES])
    if lines:
      drawn.append(
        charts.curves(
          title, lines, across='image side [px]', log_across=True, log_up=True
        )
      )
  return [*parts, content.Charts(drawn)] if drawn else parts


def _choice(run) -> list[content.Part]:
  """Scores on held-out images, where there was something to choose."""
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
  head = ('setting', 'held-out accuracy', '')
  parts = [content.Table(head, rows, folded='more settings')]
  if chart := _scores_chart(scores):
    parts.append(content.Charts([chart]))
  return parts


def _scores_chart(scores) -> content.Picture | None:
  """Accuracy over a key whose values are numbers, a line for all the rest."""
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
  if len(lines) > charts.MOST_LINES:
    return None
  return charts.curves(
    'held-out accuracy',
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


def _runs_of(run) -> dict[str, finished_run.FinishedRun]:
  """Of a sweep, by their folders."""
  return {
    str(other.workdir.relative_to(run.workdir)): other for other in run.below
  }


def _table_of(runs, shown=20) -> content.Table:
  """A row for each run, with the way to its page."""
  names = list(dict.fromkeys(n for r in runs.values() for n in r.metrics))
  names = list(filter(metric_parts.is_main, names))[:_MOST_COLUMNS]
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
