"""Summaries of the runs of a study's points: numbers, table, chart."""

from collections.abc import Mapping, Sequence
import dataclasses
import re
import statistics
from typing import Any

from etils import epath
import ml_collections

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.data import catalog
from vit_jax.distributed import processes
from vit_jax.evaluation import frontier, paper_tables
from vit_jax.inspection import figures, study_charts
from vit_jax.jobs.compare import points as points_lib
from vit_jax.jobs.compare import selection
from vit_jax.models import flops
from vit_jax.workdir import console

COSTS = {
  'exaflops': 'exaFLOPs of training',
  'relative': 'compute, relative to the first',
  'core_days': 'core-days, as measured',
  'examples': 'training examples',
}
_FRONTIER_COSTS = 'exaflops', 'relative', 'core_days'
_References = Mapping[str, Mapping[str, Sequence[study_charts.Mark]]]
_FINETUNED = re.compile('finetune/(?P<name>.+)/accuracy')


@dataclasses.dataclass(frozen=True)
class PointSummary:
  """The summary of a point over its runs.

  Attributes:
    name: the point's name.
    family: the point's family.
    seeds: number of runs that did not diverge.
    diverged: number of runs that did.
    costs: mean costs of one run, by the names of `COSTS` and others.
    metrics: mean metrics, and standard deviations as NAME_std.
    curves: by metric, (step, mean, standard deviation) during training.
    chosen: name of the setting selected for the point, if any.
  """

  name: str
  family: str
  seeds: int
  diverged: int
  costs: Mapping[str, float]
  metrics: Mapping[str, float]
  curves: Mapping[str, Sequence[tuple[float, float, float]]]
  chosen: str = ''


def summarize(
  point: points_lib.Point,
  runs: Sequence[points_lib.Run | None],
  chosen: str = '',
) -> PointSummary:
  """Summarizes the runs of a point.

  Args:
    point: the point.
    runs: one per seed; None for runs that diverged.
    chosen: name of the setting selected for the point.
  """
  finished = [run for run in runs if run is not None]
  if not finished:
    return PointSummary(
      point.name, point.family, 0, len(runs), {}, {}, {}, chosen
    )
  return PointSummary(
    name=point.name,
    family=point.family,
    seeds=len(finished),
    diverged=len(runs) - len(finished),
    costs=_costs(finished),
    metrics=selection.mean_and_std([run.metrics for run in finished]),
    curves=_curves(finished),
    chosen=chosen,
  )


def _costs(runs) -> dict[str, float]:
  """Returns the cost of a run: FLOPs by formula and compiler, and mean time."""
  first = runs[0].run
  config = first.config
  config_without_head = config.copy_and_resolve_references()
  config_without_head.model.representation_size = 0
  model = build.create_model(config_without_head, num_classes=0)
  size = config_lib.image_size(config)
  images = first.results['step'] * config.batch_size
  compiled = flops.forward_as_compiled(model, size)
  return {
    'steps': first.results['step'],
    'images': images,
    'examples': first.results.get('num_train_examples', 0),
    'parameters': first.results['parameters'],
    'exaflops': flops.training_exaflops(flops.forward(model, size), images),
    'compiler_exaflops': flops.training_exaflops(compiled, images),
    'seconds': _mean_result(runs, 'seconds'),
    'core_days': _mean_result(runs, 'core_days'),
  }


def _mean_result(runs, name):
  return statistics.fmean(run.run.results[name] for run in runs)


def _curves(runs):
  """Returns repeated measurements of metrics, at the steps all runs share."""
  curves = {}
  for name in runs[0].metrics:
    by_step = [
      {e['step']: e[name] for e in run.run.events if name in e} for run in runs
    ]
    steps = sorted(set.intersection(*map(set, by_step)))
    if len(steps) > 1:
      curves[name] = [
        (step, *_mean_and_std([values[step] for values in by_step]))
        for step in steps
      ]
  return curves


def _mean_and_std(values):
  std = statistics.stdev(values) if len(values) > 1 else 0.0
  return statistics.fmean(values), std


def metrics_to_draw(
  config: ml_collections.ConfigDict, summaries: Sequence[PointSummary]
) -> list[str]:
  """Returns the names of `study.metrics`, or the first metric by default.

  Raises:
    ValueError: if `study.metrics` names a metric that was not measured.
  """
  measured = metric_names(summaries)
  names = list(config.study.metrics)
  names = list(filter(None, names)) or measured[:1]
  unknown = [name for name in names if measured and name not in measured]
  if unknown:
    raise ValueError(
      f'study.metrics={config.study.metrics!r}: {unknown[0]!r} was not'
      f' measured; choose from {", ".join(measured)}.'
    )
  return names


def metric_names(summaries: Sequence[PointSummary]) -> list[str]:
  """Returns the names of all metrics except `_std`, in the order measured."""
  names = dict.fromkeys(name for p in summaries for name in p.metrics)
  return [name for name in names if not name.endswith('_std')]


def on_frontier(
  across: str, metric: str, summaries: Sequence[PointSummary]
) -> list[bool]:
  """Returns which points are on the frontier of a metric against compute.

  Args:
    across: the horizontal axis. The frontier is empty if it is not compute.
    metric: name of the metric.
    summaries: the points, including diverged ones.
  """
  if across not in _FRONTIER_COSTS:
    return [False] * len(summaries)
  measured = [p for p in summaries if metric in p.metrics]
  is_best = frontier.on_frontier(
    [place(p, summaries, across) for p in measured],
    [p.metrics[metric] for p in measured],
  )
  best = {p.name for p, b in zip(measured, is_best, strict=True) if b}
  return [p.name in best for p in summaries]


def _on_first_frontier(across, metrics, summaries):
  if not metrics:  # All runs diverged.
    return [False] * len(summaries)
  return on_frontier(across, metrics[0], summaries)


def place(
  summary: PointSummary, summaries: Sequence[PointSummary], across: str
) -> float:
  """Returns the position of a point on the horizontal axis."""
  if across == 'relative':
    first = next(p for p in summaries if p.costs)
    return summary.costs['exaflops'] / first.costs['exaflops']
  return summary.costs[across]


def table(
  summaries: Sequence[PointSummary], across: str, metrics: Sequence[str]
) -> str:
  """Returns a table with a row per point, accuracies in per cent.

  Args:
    summaries: one per point.
    across: the horizontal axis of the chart. If it is compute, `*` marks the
      points on the frontier.
    metrics: the metrics of the chart; the frontier is that of the first one.
  """
  names = metric_names(summaries)
  best = _on_first_frontier(across, metrics, summaries)
  head = ['point', 'family', 'steps', 'images', 'exaFLOPs', 'by the compiler']
  rows = [[*head, 'core-days', *names, '']]
  for point, is_best in zip(summaries, best, strict=True):
    cells = ['diverged', *[''] * (4 + len(names))]
    if point.costs:
      c = point.costs
      cells = [f'{c["steps"]}', f'{c["images"]:.3g}', f'{c["exaflops"]:.4g}']
      cells += [f'{c["compiler_exaflops"]:.4g}', f'{c["core_days"]:.3g}']
      cells += [percent(point.metrics, name) for name in names]
    rows.append([point.name, point.family, *cells, '*' if is_best else ''])
  text = console.table(rows)
  if any(best):
    text += f'\n\n* No other point has a higher {metrics[0]} for less compute.'
  return text


def percent(metrics: Mapping[str, float], name: str) -> str:
  """Returns a mean in per cent, such as `81.25±0.31`; '' if not measured."""
  if name not in metrics:
    return ''
  std = metrics.get(f'{name}_std')
  text = f'{100 * metrics[name]:.2f}'
  return text if std is None else f'{text}±{100 * std:.2f}'


def draw(
  path: epath.Path,
  summaries: Sequence[PointSummary],
  across: str,
  metrics: Sequence[str],
  title: str,
  references: _References | None = None,
) -> None:
  """Writes the chart, with a panel per metric and a line per family.

  `references` are marks of the paper, by metric and family.
  """
  if not (metrics and processes.is_first()):
    return
  figure = study_charts.accuracy_by_cost(
    {metric: _lines(summaries, across, metric) for metric in metrics},
    title=title,
    x_label=COSTS.get(across, across),
    log_x=across in COSTS,
    references=references,
  )
  figures.save(figure, path)


def marks_of_the_paper(
  config: ml_collections.ConfigDict, metric: str
) -> dict[str, list[study_charts.Mark]]:
  """Returns the paper's own marks by family, for Figures 3 and 5.

  There are none for other data, other metrics, and other horizontal axes.
  """
  match = _FINETUNED.fullmatch(metric)
  figure = config.job, config.data.name, config.study.across
  if not match:
    return {}
  if figure == ('study', 'jft300m', 'exaflops'):
    marks = [
      (points_lib.family_of(model), exaflops, row)
      for (model, _), (exaflops, row) in paper_tables.TABLE_6.items()
    ]
  elif figure == ('data_study', 'imagenet2012', 'examples'):
    marks = [
      (model, catalog.DATASETS[data].num_examples['train'], row)
      for (data, model), row in paper_tables.TABLE_5.items()
    ]
  else:
    return {}
  lines = {}
  for family, x, row in marks:
    if match['name'] in row:
      mark = study_charts.Mark(x, row[match['name']] / 100)
      lines.setdefault(family, []).append(mark)
  return lines


def _lines(summaries, across, metric) -> dict[str, list[study_charts.Mark]]:
  """Returns the marks of each line: one per family, or per point if by step."""
  if across == 'step':
    return {
      p.name: [study_charts.Mark(*mark) for mark in _curve(p, metric)]
      for p in summaries
      if metric in p.metrics
    }
  lines = {}
  best = on_frontier(across, metric, summaries)
  for point, is_best in zip(summaries, best, strict=True):
    if metric in point.metrics:
      mark = study_charts.Mark(
        point.name if across == 'name' else place(point, summaries, across),
        point.metrics[metric],
        point.metrics.get(f'{metric}_std', 0.0),
        name=point.name if across in _FRONTIER_COSTS else '',
        on_frontier=is_best,
      )
      lines.setdefault(point.family, []).append(mark)
  return lines


def _curve(point, metric):
  """Returns (step, mean, std) during training, or only at its end."""
  std = point.metrics.get(f'{metric}_std', 0.0)
  end = (point.costs['steps'], point.metrics[metric], std)
  return point.curves.get(metric, [end])


def as_json(
  summaries: Sequence[PointSummary], across: str, metrics: Sequence[str]
) -> list[dict[str, Any]]:
  """Returns all numbers of every point, as `results.json` holds them."""
  best = _on_first_frontier(across, metrics, summaries)
  return [
    dataclasses.asdict(point) | {'frontier': is_best}
    for point, is_best in zip(summaries, best, strict=True)
  ]
