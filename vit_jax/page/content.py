"""The content of a page, and how it becomes one HTML file.

The file of a `Page` loads nothing over the network and runs no scripts; its
content security policy forbids both.
"""

import base64
from collections.abc import Sequence
import dataclasses
import hashlib
from typing import Any

import jinja2
import markupsafe

from vit_jax import printing


@dataclasses.dataclass(frozen=True)
class Text:
  """A paragraph."""

  text: str


@dataclasses.dataclass(frozen=True)
class Code:
  """Preformatted lines."""

  text: str


@dataclasses.dataclass(frozen=True)
class Facts:
  """Names with values, in as many columns as fit.

  Attributes:
    items: name, value, and a note on the value or ''.
  """

  items: Sequence[tuple[str, str, str]]


@dataclasses.dataclass(frozen=True)
class Bar:
  """A table cell: a share in [0, 1], in per cent and as a bar."""

  share: float


@dataclasses.dataclass(frozen=True)
class Term:
  """A table cell: a name and, in small print, its meaning."""

  name: str
  meaning: str


@dataclasses.dataclass(frozen=True)
class Link:
  """A table cell: a link to another page, relative to this one."""

  text: str
  target: str


Cell = str | Bar | Term | Link


@dataclasses.dataclass(frozen=True)
class Table:
  """A table.

  Attributes:
    head: names of the columns.
    rows: cells of each row.
    shown: number of rows that are always visible; the others are folded.
    folded: what to call the folded rows, after their number.
    numbers: whether to align the columns after the first to the right.
  """

  head: Sequence[str]
  rows: Sequence[Sequence[Cell]]
  shown: int = 20
  folded: str = 'more rows'
  numbers: bool = True


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture, embedded in the page.

  Attributes:
    markup: an <svg>, or an <img> with a data URI, including its text
      alternative.
    caption: text above the picture.
  """

  markup: markupsafe.Markup
  caption: str = ''


@dataclasses.dataclass(frozen=True)
class Charts:
  """Pictures with captions, in as many columns as fit."""

  pictures: Sequence[Picture]


@dataclasses.dataclass(frozen=True)
class Tile:
  """One or more small pictures above a caption."""

  pictures: Sequence[Picture]
  caption: str


@dataclasses.dataclass(frozen=True)
class Tiles:
  """Tiles, in as many columns as fit."""

  tiles: Sequence[Tile]


Part = Text | Code | Facts | Table | Charts | Tiles


@dataclasses.dataclass(frozen=True)
class Section:
  """Parts under a heading."""

  title: str
  parts: Sequence[Part]


@dataclasses.dataclass(frozen=True)
class Page:
  """A page.

  Attributes:
    title: title of the window.
    summary: what ran, in one line.
    headlines: names and values of the most important metrics.
    sections: sections from top to bottom.
    footer: last line, in small print.
  """

  title: str
  summary: str
  headlines: Sequence[tuple[str, str]]
  sections: Sequence[Section]
  footer: str = ''


def html(page: Page) -> str:
  """Returns the page as HTML; all texts are escaped and printable."""
  return render('page.html', page=page)


def render(template: str, **values: Any) -> str:
  """Renders a file of `templates/`; texts are escaped and made printable."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('vit_jax.page', 'templates'),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    finalize=_printable,
  )
  # The template has a branch for each kind of part and of table cell.
  environment.filters['kind'] = lambda value: type(value).__name__
  environment.filters['sha256'] = _sha256
  return environment.get_template(template).render(**values)


def _sha256(script: str) -> str:
  """Returns the hash of a script for a content security policy."""
  digest = hashlib.sha256(script.encode()).digest()
  return base64.b64encode(digest).decode()


def _printable(value):
  """Makes texts printable; markup is HTML already."""
  if isinstance(value, str) and not isinstance(value, markupsafe.Markup):
    return printing.printable(value, keep='\n')
  return value
