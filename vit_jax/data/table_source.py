"""Datasets of images that a table lists, with labels and splits.

Several labels of an image are separated by `|`, or are a JSON list. If any row
has several labels or a list, the dataset is multi-label: its images may have
any number of labels, even none. The classes are the labels of the split train,
sorted by name, or by value if all are whole numbers.

Splits may have any name; the usual names in `folder.SPLITS` are the same as
train, val and test. If there is val but no test, `test` is val. In a table
without splits, a fifth of the images of every class is the split `test`, or a
fifth of all images of a multi-label dataset; see `file_source.divide`.
"""

from __future__ import annotations

import array
import json
import os
import re
from typing import Any

from jaxtyping import Int32
import numpy as np

from vit_jax.data import file_source, folder, shortened, table_rows
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.file_source import Files, FileSource
from vit_jax.data.ragged import Ragged
from vit_jax.data.table import Table

_SEPARATOR = '|'  # Of labels.
_SPLIT_NAMES = {name: split for split, x in folder.SPLITS.items() for name in x}


def open_table(
  argument: str,
  split: str,
  *,
  files: Files | None = None,
  subset: int = 0,
  seed: int = 0,
  exclude: Exclusions | None = None,
) -> FileSource:
  """Opens a split of a table.

  Args:
    argument: see `Table.parse`.
    split, subset, seed, exclude: see `registry.open_source`.
    files: its files; None: `read_files(argument)`.

  Raises:
    ValueError: if the table cannot be read, the split is unknown or empty, or
      `exclude` does not match it.
  """
  files = files or read_files(argument)
  fields = files.fields(
    f'table:{argument}', split, subset=subset, seed=seed, exclude=exclude
  )
  return FileSource(**fields)


def read_files(argument: str) -> Files:
  """Reads a table with labels.

  Raises:
    ValueError: if the table is malformed, a row has no label, a path occurs
      twice, or a label is missing in train.
  """
  table = Table.parse(argument)
  rows = _Rows(table)
  prefix, joined_names = table.located(bytes(rows.names))
  rows.names.clear()
  names = Ragged.terminated(joined_names)
  rows.check(names)
  class_names, labels = rows.classes()
  stand_in = ''
  if rows.has_splits:
    row_splits = np.array(rows.splits)
    splits = {
      split: file_source.in_fixed_order(
        names, np.flatnonzero(row_splits == number)
      )
      for split, number in rows.split_ids.items()
    }
    stand_in = 'val' if 'val' in splits and 'test' not in splits else ''
  else:
    groups = np.zeros_like(labels.lengths) if rows.multi_label else labels
    splits = file_source.divide(names, groups)
  return Files(
    prefix=prefix,
    names=names,
    class_names=class_names,
    labels=labels,
    splits=splits,
    special=np.zeros(0, np.int64),
    is_divided=not rows.has_splits,
    listed_in=os.fspath(table.file),
    stand_in=stand_in,
  )


class _Rows:
  """The rows of a table, in a few arrays.

  Attributes:
    names: names of the files, each followed by a zero byte.
    lines: line of every row.
    label_ids: number of every label, in the order in which they occur.
    labels: numbers of the labels of all rows, joined.
    counts: number of labels of every row.
    split_ids: number of every split; '' is that of rows without a split.
    splits: number of the split of every row.
    multi_label: whether a row may have any number of labels.
  """

  def __init__(self, table: Table):
    """Reads a table; see `read_files` for errors."""
    self._table = table
    self.names, self.lines = bytearray(), array.array('q')
    self.label_ids: dict[str, int] = {}
    self.labels, self.counts = array.array('i'), array.array('i')
    self.split_ids: dict[str, int] = {}
    self.splits = array.array('i')
    self.multi_label = False
    for line, (path, label, split) in table.rows(
      ['path', 'label', 'split'], optional=['split']
    ):
      self.names += table.name(line, path) + b'\0'
      self.lines.append(line)
      row_labels, is_list = self._parse_labels(line, label)
      self.labels.extend(row_labels)
      self.counts.append(len(row_labels))
      self.multi_label |= is_list
      self.splits.append(self._parse_split(line, split))

  @property
  def has_splits(self) -> bool:
    """Whether the table has splits."""
    return '' not in self.split_ids

  def check(self, names: Ragged) -> None:
    """Checks the table as a whole.

    Raises:
      ValueError: if a path occurs twice, or a row has no label or split.
    """
    table, lines = self._table, self.lines
    if repeated := file_source.find_repeated(names):
      first, second = repeated
      raise table.error(
        lines[second], f'repeats the path of line {lines[first]}.'
      )
    counts, row_splits = np.array(self.counts), np.array(self.splits)
    if not self.multi_label and not counts.all():
      raise table.error(
        lines[counts.argmin()],
        'there is no label. Give one, or, if images may have any number of'
        f' labels, lists separated by {_SEPARATOR!r}.',
      )
    if not counts.any():
      raise ValueError(f'{table.file} has no labels.')
    if self.has_splits and 'train' not in self.split_ids:
      raise ValueError(
        f'{table.file} has the splits'
        f' {shortened.join(list(self.split_ids), 10)} but not train, which'
        ' defines the classes.'
      )
    if not self.has_splits and len(self.split_ids) > 1:
      raise table.error(
        lines[(row_splits == self.split_ids['']).argmax()],
        'there is no split, but other rows have one.',
      )

  def classes(
    self,
  ) -> tuple[tuple[str, ...], Int32[np.ndarray, ' n'] | Ragged]:
    """Returns the names of the classes, and the class or classes of every row.

    Raises:
      ValueError: if a label is missing in train.
    """
    labels, counts = np.array(self.labels), np.array(self.counts)
    if self.has_splits:
      in_train = np.array(self.splits) == self.split_ids['train']
      row_of_label = np.repeat(np.arange(len(counts)), counts)
      unknown = np.setdiff1d(labels, labels[in_train[row_of_label]])
      if len(unknown):
        line = self.lines[row_of_label[np.isin(labels, unknown).argmax()]]
        missing = [list(self.label_ids)[k] for k in unknown]
        raise self._table.error(
          line,
          'labels are missing in train, from this line on:'
          f' {shortened.join(missing, 5)}; add training images or remove these'
          ' rows.',
        )
    names = sorted(self.label_ids)
    if all(name.isdecimal() for name in names):
      names.sort(key=int)
    new_ids = np.zeros(len(names), np.int32)
    new_ids[[self.label_ids[name] for name in names]] = np.arange(len(names))
    labels = new_ids[labels]
    if self.multi_label:
      labels = Ragged(labels, np.cumsum(counts) - counts, counts)
    return tuple(names), labels

  def _parse_labels(self, line: int, value: Any) -> tuple[list[int], bool]:
    """Returns the numbers of the labels of a row, and whether it is a list."""
    if isinstance(value, str):
      value = value.strip()
      if value.startswith('[') and value.endswith(']'):
        value = self._parse_list(line, value)
      elif _SEPARATOR in value:
        value = value.split(_SEPARATOR)
    is_list = isinstance(value, list)
    if not is_list:
      value = [] if value in (None, '') else [value]
    numbers = (self._label_id(line, label) for label in value)
    return list(dict.fromkeys(numbers)), is_list

  def _parse_list(self, line: int, text: str) -> list[Any]:
    try:
      return json.loads(text)
    except (ValueError, RecursionError) as error:
      raise self._table.error(
        line, f'{text!r:.60} is not a list of labels in JSON ({error}).'
      ) from error

  def _label_id(self, line: int, label: Any) -> int:
    if isinstance(label, int) and not isinstance(label, bool):
      label = str(label)
    if not isinstance(label, str) or not label.strip():
      raise self._table.error(
        line, f'{label!r:.60} is not a label; expected text or a whole number.'
      )
    label = label.strip()
    if label not in self.label_ids and table_rows.has_surrogates(label):
      raise self._table.error(line, f'{label!r:.60} is not text.')
    return self.label_ids.setdefault(label, len(self.label_ids))

  def _parse_split(self, line: int, value: Any) -> int:
    """Returns the number of the split of a row."""
    split = '' if value is None else value
    if not isinstance(split, str) or not re.fullmatch(r'\w*', split.strip()):
      raise self._table.error(
        line, f'{value!r:.60} is not a split; expected a word such as train.'
      )
    split = split.strip()
    split = _SPLIT_NAMES.get(split.lower(), split)
    return self.split_ids.setdefault(split, len(self.split_ids))
