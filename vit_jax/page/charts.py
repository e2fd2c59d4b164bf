"""Charts in the style of the page, each with a description in words.

They are as wide as a phone, so that text keeps its size there. Their colours
are readable on white and on black.
"""

from collections.abc import Mapping, Sequence
import unicodedata

from jaxtyping import Int
import matplotlib
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
import numpy as np

from vit_jax.inspection import labels
from vit_jax.page import content, pictures

COLOURS = (
  '#3a82c4',
  '#d97f22',
  '#2f9e6e',
  '#c4559a',
  '#8a6fd1',
  '#b5a21b',
  '#1ba3b0',
  '#d4544a',
)
MAX_LINES = len(COLOURS)
WIDTH = 4.2  # Width of every chart in inches; 403 px in a browser.
_MAX_POINTS = 400  # Points of a line; more are not visible.
_MAX_NUMBERED = 16  # Classes of a confusion matrix that shows its numbers.
_MAX_INSIDE = 3  # Lines with a legend inside the axes.
_MAX_NAME = 22  # Columns of a name on an axis.


def number(value: float) -> str:
  """Formats a number with up to four significant digits."""
  return f'{value:.4g}'


def curves(
  title: str,
  lines: Mapping[str, Sequence[tuple[float, float]]],
  *,
  across: str = 'step',
  log_across: bool = False,
  log_up: bool = False,
) -> content.Picture:
  """Draws values over steps, or over another quantity.

  Args:
    title: what the values are.
    lines: points (x, y) of each line, by name. Only the first MAX_LINES are
      drawn; the name of a single line is not shown.
    across: name of the x axis.
    log_across: whether the x axis is logarithmic, with a tick at each point.
    log_up: whether the y axis is logarithmic.
  """
  lines = dict(list(lines.items())[:MAX_LINES])
  outside = len(lines) if len(lines) > _MAX_INSIDE else 0
  figure, axes = _begin(2.5 + 0.16 * outside)
  for (name, points), colour in zip(lines.items(), COLOURS, strict=False):
    x, y = np.array(thin(points), np.float64).T
    few = len(x) <= 12
    axes.plot(
      x,
      y,
      label=labels.plain(name),
      color=colour,
      lw=1.4,
      marker='o' if few else '',
      ms=3.5,
    )
  if log_across:
    axes.set_xscale('log')
    places = sorted({x for points in lines.values() for x, _ in points})
    axes.set_xticks(places, [f'{x:g}' for x in places])
    axes.set_xticks([], minor=True)
  if log_up:
    axes.set_yscale('log')
  axes.set_xlabel(labels.plain(across))
  axes.grid(alpha=0.35, lw=0.5)
  if len(lines) > _MAX_INSIDE:
    figure.legend(loc='outside upper left', fontsize=7.5, frameon=False)
  elif len(lines) > 1:
    axes.legend(fontsize=8, frameon=False)
  words = '; '.join(
    _describe(name, points, across) for name, points in lines.items()
  )
  return pictures.drawing(figure, f'Chart of {title}. {words}.', title)


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
  """Returns at most 400 points, evenly spread, with the first and the last."""
  if len(points) <= _MAX_POINTS:
    return list(points)
  kept = np.linspace(0, len(points) - 1, _MAX_POINTS).round().astype(int)
  return [points[k] for k in kept]


def _describe(name, points, across) -> str:
  (x0, first), (x1, last) = points[0], points[-1]
  name = f'{name}: ' if name else ''
  if len(points) == 1:
    return f'{name}{number(first)} at {across} {x0:g}'
  values = [value for _, value in points]
  return (
    f'{name}from {number(first)} at {across} {x0:g} to {number(last)} at'
    f' {x1:g}, lowest {number(np.min(values))}, highest'
    f' {number(np.max(values))}'
  )


def bars(
  title: str,
  values: Mapping[str, float],
  *,
  spreads: Mapping[str, float] | None = None,
  marks: Mapping[str, Mapping[str, float]] | None = None,
  unit: str = '%',
) -> content.Picture:
  """Draws horizontal bars from 0 to 100.

  Args:
    title: what the values are.
    values: lengths of the bars by name.
    spreads: standard deviations by name.
    marks: values to compare with, by their source and name.
    unit: unit of the values.
  """
  figure, axes = _begin(0.27 * len(values) + (0.9 if marks else 0.6))
  places = np.arange(len(values))
  spreads = spreads or {}
  axes.barh(
    places,
    list(values.values()),
    0.62,
    xerr=[spreads.get(name, 0) for name in values] if spreads else None,
    color=COLOURS[0],
    alpha=0.75,
    error_kw={'lw': 1},
  )
  for k, (source, others) in enumerate((marks or {}).items()):
    axes.scatter(
      [others[name] for name in values],
      places,
      marker='D^s'[k % 3],
      s=18,
      color=COLOURS[1 + k],
      label=labels.plain(source),
      zorder=3,
    )
  axes.set_yticks(places, [_shorten(name) for name in values])
  axes.set_ylim(len(values) - 0.4, -0.6)
  axes.set_xlim(0, 100)
  axes.set_xlabel(unit)
  axes.grid(axis='x', alpha=0.35, lw=0.5)
  if marks:
    figure.legend(
      loc='outside upper left', ncols=3, fontsize=7.5, frameon=False
    )
  words = ', '.join(
    f'{name} {value:.1f}'
    + (f' (standard deviation {spreads[name]:.1f})' if name in spreads else '')
    for name, value in values.items()
  )
  return pictures.drawing(figure, f'Bars of {title}, {unit}: {words}.', title)


def confusion(
  title: str, counts: Int[np.ndarray, 'k k'], names: Sequence[str]
) -> content.Picture:
  """Draws a confusion matrix: examples by label and predicted class."""
  k = len(names)
  figure, axes = _begin(WIDTH)
  # Opacity is the share of the label, which works on any background.
  colours = np.full((k, k, 4), to_rgba(COLOURS[0]))
  colours[..., 3] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  axes.imshow(colours, interpolation='nearest')
  if k <= _MAX_NUMBERED:
    for i, j in zip(*counts.nonzero(), strict=True):
      axes.text(j, i, str(counts[i, j]), ha='center', va='center', fontsize=7.5)
  size = max(3.5, min(8, 160 / k))
  short = [_shorten(name) for name in names]
  axes.set_xticks(range(k), short, rotation=90, fontsize=size)
  axes.set_yticks(range(k), short, fontsize=size)
  axes.tick_params(length=0)
  axes.set_xlabel('predicted')
  axes.set_ylabel('label')
  axes.spines[:].set(visible=True, alpha=0.4, lw=0.5)
  words = (
    f'{title}: {k} classes, {counts.sum()} images, {np.trace(counts)} of them'
    ' on the diagonal'
  )
  wrong = counts - np.diag(np.diag(counts))
  pairs = sorted(zip(*wrong.nonzero(), strict=True), key=lambda p: -wrong[p])
  mistakes = ', '.join(
    f'{names[i]} mistaken for {names[j]} ({wrong[i, j]})' for i, j in pairs[:3]
  )
  words += f'; most often {mistakes}.' if mistakes else '.'
  return pictures.drawing(figure, words, title)


def _begin(height: float):
  with matplotlib.rc_context({'font.size': 9}):
    figure = Figure(figsize=(WIDTH, height), layout='constrained')
    axes = figure.add_subplot()
  axes.spines[['top', 'right']].set_visible(False)
  axes.tick_params(labelsize=8.5)
  return figure, axes


def _shorten(name: str) -> str:
  """Returns a label of at most 22 columns; wide characters take two."""
  width, kept = 0, 0
  for kept, character in enumerate(name):  # noqa: B007
    width += 1 + (unicodedata.east_asian_width(character) in 'WF')
    if width > _MAX_NAME:
      break
  else:
    return labels.plain(name)
  return labels.plain(name[: kept - 1] + '…')
