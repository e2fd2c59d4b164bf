"""Curves and tables of metrics with flat names such as `test/accuracy`."""

import collections
from collections.abc import Iterable, Mapping, Sequence

from vit_jax.evaluation import multi_label
from vit_jax.page import charts, content

Event = Mapping[str, float]

_MAIN = ('loss', 'accuracy', 'mean_average_precision')
_FIRST = (*_MAIN, 'micro_f1', 'macro_f1', 'top5_accuracy')  # The first charts.
_MAX_HEADLINES = 4


def curves(events: Iterable[Event]) -> list[content.Part]:
  """Returns one chart per quantity, with one line per split."""
  by_quantity = collections.defaultdict(lambda: collections.defaultdict(list))
  full_names = {}
  for event in events:
    for name, value in event.items():
      if name != 'step':
        quantity, line = _place(name)
        by_quantity[quantity][line].append((event['step'], value))
        full_names[quantity] = name
  return _side_by_side(
    (quantity if len(lines) > 1 else full_names[quantity], lines)
    for quantity, lines in sorted(by_quantity.items(), key=_rank)
  )


def compared(runs: Mapping[str, Sequence[Event]]) -> list[content.Part]:
  """Returns one chart per main metric, with one line per run, up to a limit."""
  by_metric = collections.defaultdict(lambda: collections.defaultdict(list))
  for run, events in list(runs.items())[: charts.MAX_LINES]:
    for event in events:
      for name, value in event.items():
        if is_main(name):
          by_metric[name][run].append((event['step'], value))
  return _side_by_side(by_metric.items())


def _side_by_side(lines_by_title) -> list[content.Part]:
  """Draws the charts that have a line with more than one point."""
  drawn = [
    charts.curves(title, lines)
    for title, lines in lines_by_title
    if any(len(points) > 1 for points in lines.values())
  ]
  return [content.Charts(drawn)] if drawn else []


def _place(name: str) -> tuple[str, str]:
  """Returns the names of the chart and of the line for a metric."""
  group, _, quantity = name.rpartition('/')
  if group.startswith('few_shot/'):
    return group, quantity
  if quantity.startswith('raw_'):
    return quantity.removeprefix('raw_'), f'{group}, raw'
  return quantity, group


def _rank(item) -> tuple[int, int]:
  quantity, lines = item
  first = _FIRST.index(quantity) if quantity in _FIRST else len(_FIRST)
  return ('perf' in lines, first)


def table(metrics: Mapping[str, float]) -> content.Table:
  """Returns a table of all metrics, with standard deviations where known."""
  spread = any(name.endswith('_std') for name in metrics)
  rows = []
  for name, value in metrics.items():
    if name.removesuffix('_std') in metrics and name.endswith('_std'):
      continue
    row = [name, charts.number(value)]
    if spread:
      std = metrics.get(f'{name}_std')
      row.append('' if std is None else charts.number(std))
    rows.append(row)
  head = ['metric', 'value', *(['std'] if spread else [])]
  return content.Table(head, rows, folded='more metrics')


def headlines(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
  """Returns names and values of the few most important metrics.

  These are the first accuracies and the like; without any, the first metrics.
  """
  names = [n for n in metrics if not n.endswith('_std') and '/raw_' not in n]
  if shares := [name for name in names if is_share(name)]:
    shares = shares[:_MAX_HEADLINES]
    return [(name, f'{100 * metrics[name]:.2f} %') for name in shares]
  return [(n, charts.number(metrics[n])) for n in names[:_MAX_HEADLINES]]


def is_main(name: str) -> bool:
  """Returns whether runs are compared by this metric."""
  return name.rpartition('/')[2] in _MAIN


def is_share(name: str) -> bool:
  """Returns whether a metric is a number in [0, 1], shown in per cent."""
  suffixes = ('accuracy', 'shot', *multi_label.METRICS)
  return name.endswith(suffixes) or name.startswith('vtab/')
