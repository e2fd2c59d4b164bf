"""Tables of images: `table:FILE[,OPTION=VALUE]...`.

FILE is a CSV, TSV or JSON Lines file; see `table_rows`. Every row has the path
of an image, its label or labels, and optionally its split. Options:
  root: folder that relative paths start from; default: that of the table.
  path, label, split: names of the columns; default: see `COLUMNS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import os
import re
from typing import Any

from etils import epath

from vit_jax import printing
from vit_jax.checkpoints import location
from vit_jax.data import shortened, table_rows
from vit_jax.data.ragged import Ragged

# Usual names of columns, in lower case.
COLUMNS = {
  'path': (
    'path', 'file', 'filename', 'file_name', 'filepath', 'file_path', 'image',
    'image_path',
  ),
  'label': (
    'label', 'labels', 'class', 'classes', 'class_name', 'category',
    'categories', 'tags', 'target',
  ),
  'split': ('split', 'subset', 'partition'),
}  # fmt: skip
KIND = 'table:'  # Beginning of the names of these datasets.
_OPTIONS = ('root', *COLUMNS)
_ITEM = re.compile(rf'([\w.-]+=)?{KIND}')
_OPTION = re.compile(f',(?=(?:{"|".join(_OPTIONS)})=)')
_SYNTAX = 'write table:FILE[,root=DIR][,path=COL][,label=COL][,split=COL]'


def split_list(text: str) -> list[str]:
  """Splits text at commas, but not before an option of a table.

  An item may have a name, as in `NAME=table:FILE,label=COLUMN`. The file of a
  table in a list cannot contain commas.
  """
  items = []
  for item in filter(None, map(str.strip, text.split(','))):
    if items and _ITEM.match(items[-1]) and _OPTION.match(f',{item}'):
      items[-1] += f',{item}'
    else:
      items.append(item)
  return items


def short_name(argument: str) -> str:
  """Returns the name of a table's file without folder and ending."""
  file = _OPTION.split(argument)[0]
  return os.path.splitext(os.path.basename(file))[0]


@dataclasses.dataclass(frozen=True)
class Table:
  """A table and how to read it.

  Attributes:
    file: the table.
    root: folder that relative paths start from.
    columns: names of columns that are given.
  """

  file: epath.Path
  root: epath.Path
  columns: Mapping[str, str]

  @classmethod
  def parse(cls, argument: str) -> Table:
    """Reads `FILE[,OPTION=VALUE]...`.

    A comma is part of FILE or VALUE unless an option follows.

    Raises:
      ValueError: if there is no file, or an option is given twice.
    """
    first, *given = _OPTION.split(argument)
    options = dict(option.split('=', 1) for option in given)
    if not first or len(options) < len(given) or not all(options.values()):
      raise ValueError(f"'table:{argument}' is not a table; {_SYNTAX}.")
    file = location.expand(first)
    root = location.expand(options.pop('root', file.parent))
    if not root.is_dir():
      raise ValueError(
        f'table:{argument}: folder {str(root)!r} does not exist; {_SYNTAX}.'
      )
    return cls(file, root, options)

  def rows(
    self, kinds: Sequence[str], optional: Sequence[str] = ()
  ) -> Iterator[tuple[int, list[Any]]]:
    """Yields the line of every row and its values in some of the columns.

    A value is None if the row lacks it.

    Args:
      kinds: kinds of columns, keys of `COLUMNS`, of which the first must have
        a value in every row.
      optional: those of `kinds` that the table may lack.

    Raises:
      ValueError: if the table is malformed, has no rows, or lacks a column.
    """
    # Lines of JSON may have different columns.
    columns = {}
    for line, values in table_rows.read(self.file):
      names = tuple(values)
      if names not in columns:
        columns[names] = [self._column(kind, names) for kind in kinds]
        if columns[names][0] is None:
          raise self._missing(kinds[0], names)
      yield line, [values.get(column) for column in columns[names]]
    if not columns:
      raise ValueError(f'{self.file} has no rows; expected one per image.')
    for kind, *found in zip(kinds, *columns.values(), strict=True):
      if not any(found) and (kind in self.columns or kind not in optional):
        raise self._missing(kind, next(iter(columns)))

  def _column(self, kind: str, names: Sequence[str]) -> str | None:
    """Returns the name of the column of a kind; None if there is none."""
    if kind in self.columns:
      return self.columns[kind] if self.columns[kind] in names else None
    found = [name for name in names if name.lower() in COLUMNS[kind]]
    if len(found) > 1:
      raise ValueError(
        f'{self.file} has several columns that may hold the {kind}:'
        f' {shortened.join(found, 20)}; {self._remedy(kind)}'
      )
    return found[0] if found else None

  def _missing(self, kind: str, names: Sequence[str]) -> ValueError:
    expected = self.columns.get(kind) or ', '.join(COLUMNS[kind])
    return ValueError(
      f'{self.file} has no column named {expected}; its columns are'
      f' {shortened.join(names, 20)}; {self._remedy(kind)}'
    )

  def _remedy(self, kind: str) -> str:
    return f'name one of them, as in table:{self.file},{kind}=COLUMN.'

  def error(self, line: int, problem: str) -> ValueError:
    """Returns the error of a row."""
    return ValueError(
      f'{self.file}, line {line}: {printing.printable(problem)}'
    )

  @functools.cached_property
  def _absolute_root(self) -> str:
    root = os.fspath(self.root)
    return os.path.join(root if '://' in root else os.path.abspath(root), '')

  def name(self, line: int, path: Any) -> bytes:
    """Returns the name of a file: its path, relative to the root if possible.

    Raises:
      ValueError: if it is not a path.
    """
    if not isinstance(path, str) or not path or '\0' in path:
      raise self.error(line, f'{path!r:.60} is not the path of an image.')
    if '://' in path and not path.startswith('gs://'):
      raise self.error(
        line, f'{path!r:.60} is a URL; give paths of files that can be read.'
      )
    if table_rows.has_surrogates(path):
      raise self.error(line, f'{path!r:.60} is not text.')
    return path.removeprefix(self._absolute_root).removeprefix('./').encode()

  def located(self, names: bytes) -> tuple[str, bytes]:
    """Returns the prefix of all paths, and the names that follow it.

    Args:
      names: from `name`, each followed by a zero byte. If one of them is
        absolute, the others become absolute.
    """
    if not re.search(rb'(^|\0)(/|gs://)', names):
      return os.fspath(self.root / '_')[:-1], names
    root = os.fsencode(self._absolute_root)
    absolute = (
      name if _is_absolute(name) else root + name
      for name in Ragged.terminated(names)
    )
    return '', b''.join(name + b'\0' for name in absolute)


def paths(argument: str) -> list[str]:
  """Returns the paths of the images in a table, which needs no labels.

  Raises:
    ValueError: if the table cannot be read.
  """
  table = Table.parse(argument)
  names = bytearray()
  for line, (path,) in table.rows(['path']):
    names += table.name(line, path) + b'\0'
  prefix, names = table.located(bytes(names))
  return [prefix + os.fsdecode(name) for name in Ragged.terminated(names)]


def _is_absolute(name: bytes) -> bool:
  return name.startswith((b'/', b'gs://'))
