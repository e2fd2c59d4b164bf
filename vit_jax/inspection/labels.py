"""Names of classes, files and points in figures, whatever they contain."""

from collections.abc import Callable, Iterable, Mapping
import functools
import warnings

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from vit_jax import printing

_MISSING = 'missing from font'  # In the warnings of Matplotlib.


def plain(name: str) -> str:
  """Returns a name as a label that Matplotlib does not parse as mathtext."""
  return printing.printable(name).replace('$', r'\$')


def render(
  figure: Figure,
  save: Callable[[], None],
  substitute: Callable[[list[str]], Mapping[str, str]],
) -> None:
  """Saves a figure, and again if its font lacks characters of the labels.

  Args:
    figure: the figure.
    save: saves it.
    substitute: called with the missing characters before the figure is saved
      again; returns what to draw in place of some of them.
  """
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    save()
  others = [w for w in caught if _MISSING not in str(w.message)]
  for warning in others:
    warnings.warn_explicit(
      warning.message, warning.category, warning.filename, warning.lineno
    )
  if len(others) == len(caught):
    return
  texts = ''.join(text.get_text() for text in figure.findobj(Text))
  known = _characters(font_manager.findfont(font_manager.FontProperties()))
  missing = sorted(
    c for c in set(texts) if ord(c) not in known and not c.isspace()
  )
  _translate(figure, str.maketrans(dict(substitute(missing))))
  with warnings.catch_warnings():
    warnings.filterwarnings('ignore', f'.*{_MISSING}')
    save()


def use_other_fonts(
  figure: Figure, characters: Iterable[str]
) -> dict[str, str]:
  """Lets a figure use installed fonts that have the characters.

  Returns:
    An escape sequence, such as `\\u732b`, for every character without a font.
  """
  remaining = {ord(c) for c in characters}
  families = list(matplotlib.rcParams['font.family'])
  for font in font_manager.fontManager.ttflist:
    if not remaining:
      break
    if 'LastResort' in font.fname:  # Draws a box for every character.
      continue
    if found := remaining & _characters(font.fname):
      families.append(font.name)
      remaining -= found
  for text in figure.findobj(Text):
    text.set_fontfamily(families)
  return {chr(c): ascii(chr(c))[1:-1] for c in remaining}


@functools.cache
def _characters(path: str) -> frozenset[int]:
  """Returns the characters of a font; none if Matplotlib cannot draw it."""
  try:
    font = font_manager.get_font(path)
    font.set_size(10, 72)  # Fails for bitmaps, such as those of coloured emoji.
    return frozenset(font.get_charmap())
  except (OSError, RuntimeError):
    return frozenset()


def _translate(figure: Figure, table: Mapping[int, str]) -> None:
  """Replaces characters in all texts of a figure."""
  for axes in figure.axes:
    for axis in (axes.xaxis, axes.yaxis):
      labels = [label.get_text() for label in axis.get_majorticklabels()]
      changed = [label.translate(table) for label in labels]
      if changed != labels:
        axis.set_ticks(axis.get_majorticklocs(), changed)
  for text in figure.findobj(Text):
    text.set_text(text.get_text().translate(table))
