"""What the points of a study have cost and reached: numbers, table, chart."""

from collections.abc import Mapping, Sequence
import dataclasses
import statistics
from typing import Any

from etils import epath
import ml_collections

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.distributed import processes
from vit_jax.evaluation import frontier
from vit_jax.inspection import figures, study_charts
from vit_jax.jobs.compare import points, settings
from vit_jax.models import flops
from vit_jax.workdir import console

COSTS = {
  'exaflops': 'exaFLOPs of training',
  'relative': 'compute, relative to the first',
  'core_days': 'core-days, as measured',
  'examples': 'examples to train on',
}
_FRONTIER = 'exaflops', 'relative', 'core_days'


@dataclasses.dataclass(frozen=True)
class PointSummary:
  """A point that has run.

  Attributes:
    name: of the point.
    family: of the point.
    seeds: runs that did not diverge.
    diverged: those that did.
    costs: of one run, by names of `COSTS` and more; means over the runs.
    metrics: means over the runs, and standard deviations as NAME_std.
    curves: by metric, (step, mean, deviation) along the runs.
    chosen: settings that were chosen for it.
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
  point: points.Point, runs: Sequence[points.Run | None], chosen: str = ''
) -> PointSummary:
  """What the runs of a point come to, None for those that diverged."""
  ended = [run for run in runs if run is not None]
  metrics = {}
  for name in ended[0].metrics if ended else ():
    metrics |= settings.mean_and_spread(
      name, [run.metrics[name] for run in ended]
    )
  return PointSummary(
    name=point.name,
    family=point.family,
    seeds=len(ended),
    diverged=len(runs) - len(ended),
    costs=_costs(ended) if ended else {},
    metrics=metrics,
    curves=_curves(ended) if ended else {},
    chosen=chosen,
  )


def _costs(ended) -> dict[str, float]:
  """Of a run: the rule's operations, the compiler's, and what was measured."""
  first = ended[0].run
  config = first.config
  counted = config.copy_and_resolve_references()
  counted.model.representation_size = 0
  model = build.create_model(counted, num_classes=0)
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
    'seconds': _mean_of(ended, 'seconds'),
    'core_days': _mean_of(ended, 'core_days'),
  }


def _mean_of(ended, name):
  return statistics.fmean(run.run.results[name] for run in ended)


def _curves(ended):
  """Of metrics that were measured several times, at the steps of all runs."""
  found = {}
  for name in ended[0].metrics:
    by_run = [
      {e['step']: e[name] for e in run.run.events if name in e} for run in ended
    ]
    steps = sorted(set.intersection(*map(set, by_run)))
    if len(steps) > 1:
      found[name] = [
        (step, *_mean_and_deviation([values[step] for values in by_run]))
        for step in steps
      ]
  return found


def _mean_and_deviation(values):
  spread = statistics.stdev(values) if len(values) > 1 else 0.0
  return statistics.fmean(values), spread


def metrics_to_draw(
  config: ml_collections.ConfigDict, outcomes: Sequence[PointSummary]
) -> list[str]:
  """What is drawn.

  Raises:
    ValueError: if `study.metrics` names one that nothing has.
  """
  known = metric_names_of(outcomes)
  names = [name.strip() for name in config.study.metrics.split(',')]
  names = list(filter(None, names)) or known[:1]
  if unknown := [name for name in names if known and name not in known]:
    raise ValueError(
      f'study.metrics={config.study.metrics!r}: {unknown[0]!r} was not'
      f' measured; {", ".join(known)} were.'
    )
  return names


def metric_names_of(outcomes: Sequence[PointSummary]) -> list[str]:
  """All that were measured, in order, without their deviations."""
  names = dict.fromkeys(name for o in outcomes for name in o.metrics)
  return [name for name in names if not name.endswith('_std')]


def on_frontier(
  across: str, metric: str, outcomes: Sequence[PointSummary]
) -> list[bool]:
  """Whether each outcome is on the frontier; none where no cost is drawn."""
  if across not in _FRONTIER:
    return [False] * len(outcomes)
  measured = [o for o in outcomes if metric in o.metrics]
  found = frontier.on_frontier(
    [place(o, outcomes, across) for o in measured],
    [o.metrics[metric] for o in measured],
  )
  best = {o.name for o, is_best in zip(measured, found, strict=True) if is_best}
  return [o.name in best for o in outcomes]


def _on_first_frontier(across, names, outcomes):
  if not names:  # All have diverged.
    return [False] * len(outcomes)
  return on_frontier(across, names[0], outcomes)


def place(
  outcome: PointSummary, outcomes: Sequence[PointSummary], across: str
) -> float:
  """Where a point is drawn."""
  if across == 'relative':
    first = next(o for o in outcomes if o.costs)
    return outcome.costs['exaflops'] / first.costs['exaflops']
  return outcome.costs[across]


def table(
  outcomes: Sequence[PointSummary], across: str, names: Sequence[str]
) -> str:
  """A row for each point; accuracies in per cent, `*` for the frontier.

  Args:
    outcomes: of all points.
    across: which cost the frontier is of.
    names: of metrics; the frontier is that of the first.
  """
  metrics = metric_names_of(outcomes)
  best = _on_first_frontier(across, names, outcomes)
  head = ['point', 'family', 'steps', 'images', 'exaFLOPs', 'by the compiler']
  rows = [[*head, 'core-days', *metrics, '']]
  for outcome, is_best in zip(outcomes, best, strict=True):
    cells = ['diverged', *[''] * (4 + len(metrics))]
    if outcome.costs:
      c = outcome.costs
      cells = [f'{c["steps"]}', f'{c["images"]:.3g}', f'{c["exaflops"]:.4g}']
      cells += [f'{c["compiler_exaflops"]:.4g}', f'{c["core_days"]:.3g}']
      cells += [percent(outcome.metrics, name) for name in metrics]
    rows.append([outcome.name, outcome.family, *cells, '*' if is_best else ''])
  text = console.table(rows)
  if any(best):
    text += f'\n\n* No other point has a higher {names[0]} for less compute.'
  return text


def percent(metrics: Mapping[str, float], name: str) -> str:
  """A mean with its deviation, where there is one."""
  if name not in metrics:
    return ''
  spread = metrics.get(f'{name}_std')
  text = f'{100 * metrics[name]:.2f}'
  return text if spread is None else f'{text}±{100 * spread:.2f}'


def draw(
  path: epath.Path,
  outcomes: Sequence[PointSummary],
  across: str,
  names: Sequence[str],
  title: str,
) -> None:
  """Writes the chart: a panel for each metric, a line for each family."""
  if not (names and processes.is_first()):
    return
  panels = {name: _lines(outcomes, across, name) for name in names}
  figure = study_charts.accuracy_by_cost(
    panels,
    title=title,
    x_label=COSTS.get(across, across),
    log_x=across in COSTS,
  )
  figures.save(figure, path)


def _lines(outcomes, across, name) -> dict[str, list[study_charts.Mark]]:
  lines = {}
  if across == 'step':
    return {
      outcome.name: [
        study_charts.Mark(*point) for point in _curve(outcome, name)
      ]
      for outcome in outcomes
      if name in outcome.metrics
    }
  best = on_frontier(across, name, outcomes)
  for outcome, is_best in zip(outcomes, best, strict=True):
    if name in outcome.metrics:
      mark = study_charts.Mark(
        outcome.name if across == 'name' else place(outcome, outcomes, across),
        outcome.metrics[name],
        outcome.metrics.get(f'{name}_std', 0.0),
        name=outcome.name if across in _FRONTIER else '',
        on_frontier=is_best,
      )
      lines.setdefault(outcome.family, []).append(mark)
  return lines


def _curve(outcome, name):
  """(step, mean, deviation) along the runs, or of their end alone."""
  spread = outcome.metrics.get(f'{name}_std', 0.0)
  end = (outcome.costs['steps'], outcome.metrics[name], spread)
  return outcome.curves.get(name, [end])


def as_json(
  outcomes: Sequence[PointSummary], across: str, names: Sequence[str]
) -> list[dict[str, Any]]:
  """For results, all numbers of every point."""
  best = _on_first_frontier(across, names, outcomes)
  return [
    dataclasses.asdict(outcome) | {'frontier': is_best}
    for outcome, is_best in zip(outcomes, best, strict=True)
  ]
