"""Accuracy against cost, as Figures 3, 4, 5, 8, 9 and 13 have it."""

from collections.abc import Mapping, Sequence
import dataclasses

from etils import epath
from matplotlib import ticker
from matplotlib.figure import Figure

from vit_jax.inspection import figures

_MARKERS = ('o', 's', 'D', '^', 'v', 'P', 'X', '*')


@dataclasses.dataclass(frozen=True)
class Mark:
  """A point of a line.

  Attributes:
    place: on the horizontal axis: a number, or a name.
    mean: accuracy in [0, 1].
    spread: standard deviation, 0 for none.
    name: written beside it, unless it is the family's.
    best: whether it is on the frontier.
  """

  place: float | str
  mean: float
  spread: float = 0.0
  name: str = ''
  best: bool = False


def draw(
  path: epath.Path,
  panels: Mapping[str, Mapping[str, Sequence[Mark]]],
  *,
  title: str,
  across: str,
  log_across: bool,
) -> None:
  """Writes a PNG.

  A line goes through the marks of a family by rising place, bars are standard
  deviations, and rings on a dotted line are the frontier.

  Args:
    path: of the PNG.
    panels: by metric and family.
    title: of the figure.
    across: what the horizontal axis is.
    log_across: whether it is logarithmic.
  """
  figure = Figure(
    figsize=(1.5 + 5.5 * len(panels), 5), dpi=130, layout='constrained'
  )
  grid = figure.subplots(1, len(panels), squeeze=False)
  families = dict.fromkeys(f for lines in panels.values() for f in lines)
  for axes, (metric, lines) in zip(grid.flat, panels.items(), strict=True):
    for number, family in enumerate(families):
      if family in lines:
        _draw_line(axes, lines[family], number, family)
    marks = [mark for line in lines.values() for mark in line]
    _draw_frontier(axes, [mark for mark in marks if mark.best])
    _set_axis(axes, marks, across, log_across)
    axes.set_ylabel(f'{metric} [%]')
    axes.grid(alpha=0.3)
  grid[0, -1].legend(fontsize=8)
  figure.suptitle(title, fontsize=11)
  figures.save(figure, path)


def _draw_line(axes, marks, number, family):
  named = isinstance(marks[0].place, str)
  marks = marks if named else sorted(marks, key=lambda mark: mark.place)
  axes.errorbar(
    [mark.place for mark in marks],
    [100 * mark.mean for mark in marks],
    yerr=[100 * mark.spread for mark in marks],
    label=family,
    color=f'C{number}',
    marker=_MARKERS[number % len(_MARKERS)],
    markersize=5,
    capsize=3,
    linewidth=0 if named else 1,
    elinewidth=1,
  )
  for mark in marks:
    if mark.name not in ('', family):
      axes.annotate(
        mark.name,
        (mark.place, 100 * mark.mean),
        xytext=(4, 4),
        textcoords='offset points',
        fontsize=6.5,
      )


def _draw_frontier(axes, marks):
  if not marks:
    return
  marks = sorted(marks, key=lambda mark: mark.place)
  axes.plot(
    [mark.place for mark in marks],
    [100 * mark.mean for mark in marks],
    linestyle=':',
    color='black',
    linewidth=1,
    marker='o',
    markersize=11,
    fillstyle='none',
    label='frontier',
    zorder=0,
  )


def _set_axis(axes, marks, across, log_across):
  places = dict.fromkeys(mark.place for mark in marks)
  if any(isinstance(place, str) for place in places):
    axes.tick_params(axis='x', labelrotation=30, labelsize=7.5)
    return
  axes.set_xlabel(across)
  if log_across:
    axes.set_xscale('log')
    if len(places) <= 6:  # A tick for each.
      axes.set_xticks(list(places), [_number(place) for place in places])
      axes.xaxis.set_minor_locator(ticker.NullLocator())


def _number(value: float) -> str:
  """Whole ones of up to six digits in full."""
  return f'{value:,.0f}' if 100 <= value < 1e6 else f'{value:.3g}'
