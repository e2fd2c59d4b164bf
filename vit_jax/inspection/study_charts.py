"""Charts of studies: accuracy by cost, VTAB scores, inference speed."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from vit_jax.inspection import labels

_MARKERS = ('o', 's', 'D', '^', 'v', 'P', 'X', '*')
_BAR_WIDTH = 0.4  # Bars are 1 apart.
# Where a name may stand beside its mark, in points, the best places first.
_NAME_OFFSETS = [
  (side * x, y)
  for x, y in ((5, 5), (5, -5), (6, 0), (4, 11), (4, -11), (4, 18), (4, -18))
  for side in (1, -1)
]


@dataclasses.dataclass(frozen=True)
class Mark:
  """A marker of a line.

  Attributes:
    x: horizontal position: a number, or a name.
    mean: accuracy in [0, 1].
    std: standard deviation; 0 for none.
    name: text beside the marker; omitted if equal to the name of the line.
    on_frontier: whether the cost-accuracy frontier contains it.
  """

  x: float | str
  mean: float
  std: float = 0.0
  name: str = ''
  on_frontier: bool = False


def accuracy_by_cost(
  panels: Mapping[str, Mapping[str, Sequence[Mark]]],
  *,
  title: str,
  x_label: str,
  log_x: bool,
  references: Mapping[str, Mapping[str, Sequence[Mark]]] | None = None,
) -> Figure:
  """Draws accuracy against cost, as in Figures 3, 4, 5, 8, 9 and 13.

  Panels hold marks by metric and family. If costs are numbers, lines connect
  the marks of a family in order of cost. Bars are standard deviations, and
  rings on a dotted line mark the frontier. `references` are marks of the
  paper, by metric and family, drawn in light gray.
  """
  figure, panel_axes = _figure(panels, 1.5 + 5.5 * len(panels), 5, dpi=130)
  families = dict.fromkeys(f for lines in panels.values() for f in lines)
  for axes, (metric, lines) in zip(panel_axes, panels.items(), strict=True):
    for number, family in enumerate(families):
      if family in lines:
        _draw_line(axes, lines[family], number, family)
      _draw_references(axes, (references or {}).get(metric, {}), family, number)
    marks = [mark for line in lines.values() for mark in line]
    _draw_frontier(axes, [mark for mark in marks if mark.on_frontier])
    _format_x_axis(axes, {mark.x for mark in marks}, x_label, log_x)
    axes.set_ylabel(labels.plain(f'{metric} [%]'))
    axes.grid(alpha=0.3)
  panel_axes[-1].legend(fontsize=8)
  figure.suptitle(labels.plain(title), fontsize=11)
  _draw_names(figure, panel_axes, panels)
  return figure


def vtab_scores(
  scores: Mapping[str, float],
  stds: Mapping[str, float],
  references: Mapping[str, Mapping[str, float]],
  *,
  title: str,
  label: str,
) -> Figure:
  """Draws VTAB scores as bars, as in Figure 2, and those of other models.

  Args:
    scores: percentages by name of the group.
    stds: standard deviations by name; empty for none.
    references: scores of other models, by model and name; some may be missing.
    title: title of the figure.
    label: label of the bars.
  """
  figure, (axes,) = _figure([title], 8, 4.5, dpi=150)
  positions = range(len(scores))
  axes.bar(
    positions,
    list(scores.values()),
    _BAR_WIDTH,
    yerr=[stds[name] for name in scores] if stds else None,
    capsize=4,
    color='#4c72b0',
    label=labels.plain(label),
  )
  for number, (model, values) in enumerate(references.items()):
    axes.scatter(
      [
        x + _BAR_WIDTH * (0.7 + 0.3 * number)
        for x, name in zip(positions, scores, strict=True)
        if name in values
      ],
      [values[name] for name in scores if name in values],
      marker=_MARKERS[number % len(_MARKERS)],
      label=labels.plain(model),
      color=f'C{number + 1}',
      zorder=3,
    )
  for x, score in zip(positions, scores.values(), strict=True):
    color = 'white' if score > 8 else 'black'
    axes.annotate(f'{score:.1f}', (x, 1), ha='center', color=color)
  axes.set_xticks([x + _BAR_WIDTH / 2 for x in positions], list(scores))
  axes.set_xlim(-0.4, len(scores) - 0.2)
  axes.set_ylim(0, 100)
  axes.set_ylabel('accuracy [%]')
  axes.set_title(labels.plain(title))
  axes.grid(axis='y', alpha=0.3)
  axes.set_axisbelow(True)
  handles, texts = axes.get_legend_handles_labels()
  axes.legend(
    [handles[-1], *handles[:-1]],  # Matplotlib puts bars last.
    [texts[-1], *texts[:-1]],
    loc='upper center',
    ncols=4,
    bbox_to_anchor=(0.5, -0.08),
  )
  return figure


def inference_speed(
  panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
  *,
  title: str,
) -> Figure:
  """Draws quantities against image size, as in Figure 12.

  Panels hold (image size in px, value) pairs by quantity and model.
  """
  figure, panel_axes = _figure(panels, 5 * len(panels), 4.2, dpi=120)
  for axes, (quantity, lines) in zip(panel_axes, panels.items(), strict=True):
    for model, points in lines.items():
      axes.plot(
        *zip(*points, strict=True), marker='o', ms=4, label=labels.plain(model)
      )
    axes.set_yscale('log')
    _format_log_axis(axes, {x for points in lines.values() for x, _ in points})
    axes.tick_params('x', labelrotation=45)
    axes.set_xlabel('image size [px]')
    axes.set_title(quantity, fontsize=10)
    axes.grid(alpha=0.3, which='both')
  figure.suptitle(labels.plain(title))
  handles, texts = panel_axes[0].get_legend_handles_labels()
  figure.legend(handles, texts, loc='outside right upper', frameon=False)
  return figure


def _figure(
  panels: Any, width: float, height: float, dpi: int
) -> tuple[Figure, Sequence[Any]]:
  """Returns a figure, sized in inches, and axes for panels side by side."""
  figure = Figure(figsize=(width, height), dpi=dpi, layout='constrained')
  return figure, figure.subplots(1, len(panels), squeeze=False)[0]


def _draw_line(axes, marks, number, family):
  is_named = isinstance(marks[0].x, str)
  marks = marks if is_named else sorted(marks, key=lambda mark: mark.x)
  axes.errorbar(
    [_place(mark) for mark in marks],
    [100 * mark.mean for mark in marks],
    yerr=[100 * mark.std for mark in marks],
    label=labels.plain(family),
    color=f'C{number}',
    marker=_MARKERS[number % len(_MARKERS)],
    markersize=5,
    capsize=3,
    linewidth=0 if is_named else 1,
    elinewidth=1,
  )


def _draw_references(axes, lines, family, number):
  _, texts = axes.get_legend_handles_labels()
  marks = lines.get(family, ())
  axes.plot(
    [_place(mark) for mark in marks],
    [100 * mark.mean for mark in marks],
    label='' if not marks or 'paper' in texts else 'paper',
    color='0.6',
    marker=_MARKERS[number % len(_MARKERS)],
    markersize=5,
    fillstyle='none',
    linewidth=0,
    zorder=1,
  )


def _draw_names(figure, panel_axes, panels):
  """Writes names beside marks, hiding as few marks and names as possible."""
  figure.draw_without_rendering()  # Determines the layout.
  for axes, lines in zip(panel_axes, panels.values(), strict=True):
    named = [
      mark
      for family, marks in lines.items()
      for mark in marks
      if mark.name not in ('', family)
    ]
    if not named:
      continue
    inside = axes.get_window_extent()
    marks = [mark for marks in lines.values() for mark in marks]
    taken = [
      Bbox.from_bounds(x - 6, y - 6, 12, 12)
      for x, y in axes.transData.transform([_point(mark) for mark in marks])
    ]
    for mark in named:
      name = axes.annotate(
        labels.plain(mark.name),
        _point(mark),
        (0, 0),
        textcoords='offset points',
        va='center',
        fontsize=6.5,
        in_layout=False,
      )

      def badness(offset, name=name, taken=tuple(taken), inside=inside):
        _move(name, offset)
        box = name.get_window_extent()
        is_inside = Bbox.union([box, inside]).bounds == inside.bounds
        return not is_inside, sum(map(box.overlaps, taken))

      _move(name, min(_NAME_OFFSETS, key=badness))
      taken.append(name.get_window_extent())


def _point(mark):
  return _place(mark), 100 * mark.mean


def _move(name, offset):
  name.xyann = offset
  name.set_ha('left' if offset[0] > 0 else 'right')


def _place(mark):
  return labels.plain(mark.x) if isinstance(mark.x, str) else mark.x


def _draw_frontier(axes, marks):
  if not marks:
    return
  marks = sorted(marks, key=lambda mark: mark.x)
  axes.plot(
    [_place(mark) for mark in marks],
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


def _format_x_axis(axes, positions, label, log):
  if any(isinstance(x, str) for x in positions):
    axes.tick_params(axis='x', labelrotation=30, labelsize=7.5)
    return
  axes.set_xlabel(label)
  if log and len(positions) <= 6:
    _format_log_axis(axes, positions)
  elif log:
    axes.set_xscale('log')


def _format_log_axis(axes, positions):
  """Makes the horizontal axis logarithmic, with a tick for each position."""
  axes.set_xscale('log')
  ticks = sorted(positions)
  axes.set_xticks(ticks, [_number(x) for x in ticks])
  axes.xaxis.set_minor_locator(ticker.NullLocator())


def _number(value: float) -> str:
  """Formats integers of up to six digits in full."""
  return f'{value:,.0f}' if 100 <= value < 1e6 else f'{value:.3g}'
