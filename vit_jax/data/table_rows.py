"""Rows of tables: CSV, TSV and JSON Lines files in UTF-8.

The first row of CSV and TSV files has the names of the columns. Cells may be
quoted. A line of a JSON Lines file is an object. Empty lines are skipped.
"""

from collections.abc import Callable, Iterator
import contextlib
import csv
import functools
import io
import json
from typing import Any, BinaryIO, TextIO

from etils import epath

from vit_jax.checkpoints import regular_file

# A row's line, counted from 1, and its values by column.
Row = tuple[int, dict[str, Any]]


def read(file: epath.Path) -> Iterator[Row]:
  """Yields the rows of a table.

  Values of CSV and TSV files are strings. Those of JSON are of any type.

  Raises:
    ValueError: if the file is missing, of an unknown format, or malformed.
  """
  if file.suffix.lower() not in FORMATS:
    raise ValueError(
      f'{file} is not a table; expected a name that ends in'
      f' {", ".join(FORMATS)}.'
    )
  regular_file.check(file)
  if not file.exists() or file.is_dir():
    raise ValueError(f'table {str(file)!r} does not exist; check the path.')
  line = 0
  try:
    with (
      _open(file) as binary,
      # Removes a byte order mark. The csv module handles the ends of lines.
      io.TextIOWrapper(binary, 'utf-8-sig', newline='') as text,
    ):
      for line, values in FORMATS[file.suffix.lower()](text):
        yield line, values
  except UnicodeDecodeError as error:
    where = f' after line {line}' if line else ''
    raise ValueError(
      f'{file} is not text in UTF-8 ({error.reason}{where}); save it in this'
      ' encoding.'
    ) from error
  except _RowError as error:
    raise ValueError(f'{file}, {error}') from error


def has_surrogates(text: str) -> bool:
  """Returns whether text has halves of characters, which only JSON can have."""
  return not text.isascii() and any('\ud800' <= c <= '\udfff' for c in text)


class _RowError(Exception):
  """A malformed row; the message begins with its line."""


def _open(file: epath.Path) -> contextlib.AbstractContextManager[BinaryIO]:
  if '://' in str(file):
    return io.BytesIO(file.read_bytes())
  return file.open('rb')


def _delimited(delimiter: str, text: TextIO) -> Iterator[Row]:
  rows = csv.reader(text, delimiter=delimiter, strict=True)
  try:
    header = [name.strip() for name in next(filter(None, rows), [])]
    for name in header:
      if header.count(name) > 1:
        raise _RowError(
          f'line {rows.line_num}: two columns are named {name!r}; rename one.'
        )
    for cells in filter(None, rows):
      if len(cells) != len(header):
        raise _RowError(
          f'line {rows.line_num}: {len(cells)} cells instead of {len(header)},'
          ' the number of columns; put cells that contain the separator in'
          ' double quotes.'
        )
      yield rows.line_num, dict(zip(header, cells, strict=True))
  except csv.Error as error:
    raise _RowError(f'line {rows.line_num}: {error}.') from error


def _json_lines(text: TextIO) -> Iterator[Row]:
  for line, content in enumerate(text, 1):
    if not content.strip():
      continue
    try:
      values = json.loads(content)
    except (ValueError, RecursionError) as error:
      raise _RowError(f'line {line}: not JSON ({error}).') from error
    if not isinstance(values, dict):
      raise _RowError(
        f'line {line}: expected an object such as {{"path": "a.jpg", "label":'
        f' "cat"}}, got {type(values).__name__}.'
      )
    yield line, values


FORMATS: dict[str, Callable[[TextIO], Iterator[Row]]] = {
  '.csv': functools.partial(_delimited, ','),
  '.tsv': functools.partial(_delimited, '\t'),
  '.jsonl': _json_lines,
  '.ndjson': _json_lines,
}
