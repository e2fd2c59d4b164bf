"""Curves and tables of metrics, by their flat names such as `test/accuracy`."""

import collections
from collections.abc import Iterable, Mapping, Sequence

from vit_jax.page import charts, content

Event = Mapping[str, float]

_MAIN = ('loss', 'accuracy')
_FIRST = (*_MAIN, 'top5_accuracy')  # Of the charts.
_MOST_HEADLINES = 4


def curves(events: Iterable[Event]) -> list[content.Part]:
  """A chart for each quantity, with a line for each split.

  Args:
    events: lines of `metrics.jsonl`.
  """
  found = collections.defaultdict(lambda: collections.defaultdict(list))
  full_names = {}
  for event in events:
    for name, value in event.items():
      if name != 'step':
        quantity, line = _place(name)
        found[quantity][line].append((event['step'], value))
        full_names[quantity] = name
  return _side_by_side(
    charts.curves(
      quantity if len(lines) > 1 else full_names[quantity],
      dict(list(lines.items())[: charts.MOST_LINES]),
    )
    for quantity, lines in sorted(found.items(), key=_rank)
    if any(len(points) > 1 for points in lines.values())
  )


def compared(runs: Mapping[str, Sequence[Event]]) -> list[content.Part]:
  """A chart for each main metric, with a line for each run.

  Args:
    runs: events by the run's name; the first few are drawn.
  """
  found = collections.defaultdict(lambda: collections.defaultdict(list))
  for run, events in list(runs.items())[: charts.MOST_LINES]:
    for event in events:
      for name, value in event.items():
        if is_main(name):
          found[name][run].append((event['step'], value))
  return _side_by_side(
    charts.curves(name, lines)
    for name, lines in found.items()
    if any(len(points) > 1 for points in lines.values())
  )


def _side_by_side(pictures) -> list[content.Part]:
  drawn = list(pictures)
  return [content.Charts(drawn)] if drawn else []


def _place(name: str) -> tuple[str, str]:
  """Which chart, and which line in it."""
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
  """All metrics, with the standard deviations of those that have one."""
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
  """The few that stand at the top: accuracies, or else the first."""
  names = [
    name
    for name in metrics
    if not name.endswith('_std') and '/raw_' not in name
  ]
  shares = [name for name in names if is_share(name)]
  return [
    (
      name,
      f'{100 * metrics[name]:.2f} %'
      if is_share(name)
      else charts.number(metrics[name]),
    )
    for name in (shares or names)[:_MOST_HEADLINES]
  ]


def is_main(name: str) -> bool:
  """Whether runs are compared by this metric."""
  return name.rpartition('/')[2] in _MAIN


def is_share(name: str) -> bool:
  """Whether a metric is a share of examples, in [0, 1]."""
  return name.endswith(('accuracy', 'shot')) or name.startswith('vtab/')
