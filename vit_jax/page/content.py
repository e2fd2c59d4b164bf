"""What a page holds: sections of text, tables and pictures."""

from collections.abc import Sequence
import dataclasses
from typing import ClassVar

import markupsafe


@dataclasses.dataclass(frozen=True)
class Text:
  """A paragraph."""

  text: str
  kind: ClassVar[str] = 'text'


@dataclasses.dataclass(frozen=True)
class Code:
  """Lines to be shown as they are."""

  text: str
  kind: ClassVar[str] = 'code'


@dataclasses.dataclass(frozen=True)
class Facts:
  """Names with values, side by side as the width allows.

  Attributes:
    items: name, value, and what else there is to say of it, or ''.
  """

  items: Sequence[tuple[str, str, str]]
  kind: ClassVar[str] = 'facts'


@dataclasses.dataclass(frozen=True)
class Bar:
  """A table cell: a share in [0, 1], in per cent and as a bar."""

  share: float
  kind: ClassVar[str] = 'bar'


@dataclasses.dataclass(frozen=True)
class Term:
  """A table cell: a name and, in small letters, what it means."""

  name: str
  meaning: str
  kind: ClassVar[str] = 'term'


@dataclasses.dataclass(frozen=True)
class Link:
  """A table cell: a link to another page, relative to this one."""

  text: str
  target: str
  kind: ClassVar[str] = 'link'


Cell = str | Bar | Term | Link


@dataclasses.dataclass(frozen=True)
class Table:
  """A table.

  Attributes:
    head: names of the columns.
    rows: of cells.
    shown: how many rows are open to the eye; the others are folded.
    folded: what they are called.
    numbers: whether the columns after the first are set to the right.
  """

  head: Sequence[str]
  rows: Sequence[Sequence[Cell]]
  shown: int = 20
  folded: str = 'more rows'
  numbers: bool = True
  kind: ClassVar[str] = 'table'


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture, in the page itself.

  Attributes:
    markup: an <svg> or an <img> with a data URI; it carries the text
      alternative.
    caption: above it.
  """

  markup: markupsafe.Markup
  caption: str = ''
  kind: ClassVar[str] = 'picture'


@dataclasses.dataclass(frozen=True)
class Charts:
  """Pictures side by side as the width allows."""

  pictures: Sequence[Picture]
  kind: ClassVar[str] = 'charts'


@dataclasses.dataclass(frozen=True)
class Tile:
  """One or more small pictures over a caption."""

  pictures: Sequence[Picture]
  caption: str


@dataclasses.dataclass(frozen=True)
class Tiles:
  """Many such."""

  tiles: Sequence[Tile]
  kind: ClassVar[str] = 'tiles'


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
    title: of the window.
    summary: what ran, in a line.
    headlines: the numbers that matter most, by name.
    sections: in order.
    footer: in small letters.
  """

  title: str
  summary: str
  headlines: Sequence[tuple[str, str]]
  sections: Sequence[Section]
  footer: str = ''
