"""Parquet files of images and labels, as on the Hugging Face Hub.

A column has the image files: bytes, or a struct with the fields `bytes` and
`path`. Another has the label, a number or text, or lists of them. On the Hub,
the schema says which these are, and has the names of classes. Columns are
otherwise found by name, IMAGE_COLUMNS and LABEL_COLUMNS, or given, as in
`parquet:PATH,label=fine_label`. PATH is as in `shard_files.find`, which also
finds the splits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
import contextlib
import dataclasses
import json
import os
import re
from typing import Any

from vit_jax.checkpoints import location, regular_file
from vit_jax.data import shortened
from vit_jax.data.preparation import shard_files
from vit_jax.data.preparation.original import Item, Original, Unit

IMAGE_COLUMNS = ('image', 'img', 'jpg', 'png')
LABEL_COLUMNS = ('label', 'labels', 'cls')
_OPTION = re.compile(r'(.*),(image|label)=([^,]+)', re.DOTALL)
_ROWS = 16  # In memory.


@dataclasses.dataclass(frozen=True)
class Columns:
  """The meaning of the columns of a file.

  Attributes:
    image: name of the column of images.
    label: name of the column of labels.
    names: names of the classes if labels are their numbers; None if labels are
      names.
    multi_label: whether labels are lists.
  """

  image: str
  label: str
  names: tuple[str, ...] | None
  multi_label: bool


@dataclasses.dataclass(frozen=True)
class ParquetFile(Unit):
  """A Parquet file.

  Attributes:
    path: the file.
    split: split of its rows.
    size: number of bytes.
    image: name of the column of images; empty: not given.
    label: name of the column of labels; empty: not given.
    first: another file of the dataset, whose columns have the same meaning.
  """

  path: str
  split: str
  size: int
  image: str
  label: str
  first: str

  def items(self) -> Iterator[Item]:  # noqa: D102
    columns = read_columns(self.path, self.image, self.label)
    if columns != read_columns(self.first, self.image, self.label):
      raise ValueError(
        f'{self.path} and {self.first} have other columns of images and'
        ' labels, or other class names; prepare them separately.'
      )
    file_name = os.path.basename(self.path)
    for i, (image, label) in enumerate(_read_rows(self.path, columns)):
      yield _item(f'{file_name}/{i}', image, label, self.split, columns)


@dataclasses.dataclass(frozen=True)
class Parquet(Original):
  """Parquet files.

  Attributes:
    files: all of them.
    columns: the meaning of their columns.
  """

  files: tuple[ParquetFile, ...]
  columns: Columns

  @property
  def multi_label(self) -> bool:  # noqa: D102
    return self.columns.multi_label

  def units(self) -> Iterator[Unit]:  # noqa: D102
    yield from self.files

  def class_names(  # noqa: D102
    self, labels: Collection[str]
  ) -> dict[str, str]:
    if self.columns.names is None:
      return super().class_names(labels)
    return {str(k): name for k, name in enumerate(self.columns.names)}


def open_parquet(source: str) -> Parquet:
  """Opens Parquet files.

  Args:
    source: PATH[,image=COLUMN][,label=COLUMN].

  Raises:
    ValueError: if there are none, or their columns are unknown.
  """
  path, given = source, {'image': '', 'label': ''}
  while match := _OPTION.fullmatch(path):
    path, column, given[column] = match.groups()
  files = shard_files.find(path, ('.parquet',))
  first = files[0].path
  return Parquet(
    tuple(
      ParquetFile(file.path, file.split, file.size, **given, first=first)
      for file in files
    ),
    read_columns(first, **given),
  )


def read_columns(path: str, image: str = '', label: str = '') -> Columns:
  """Returns the meaning of the columns of a file, from its schema.

  Args:
    path: the file.
    image, label: given names of the columns; empty: found.

  Raises:
    ValueError: if columns are missing or ambiguous.
  """
  with _open(path) as file:
    schema = file.schema_arrow
  features = _features(schema)
  images = [name for name in schema.names if _is_image(schema.field(name).type)]
  image = image or _choose(
    [name for name in images if _kind(features.get(name)) == 'Image'] or images,
    IMAGE_COLUMNS,
    path,
    'image',
    schema.names,
  )
  labels = [name for name in schema.names if _is_label(schema.field(name).type)]
  label = label or _choose(
    [name for name in labels if _names(features.get(name)) is not None]
    or [name for name in labels if name in LABEL_COLUMNS],
    LABEL_COLUMNS,
    path,
    'label',
    schema.names,
  )
  for name, valid, what in (
    (image, images, 'image files (bytes, or a struct with them)'),
    (label, labels, 'labels (numbers, text, or lists of them)'),
  ):
    if name not in valid:
      raise ValueError(
        f'{path} has no column {name!r} of {what}; its columns:'
        f' {_listed(schema.names)}.'
      )
  return Columns(
    image,
    label,
    _names(features.get(label)),
    _is_list(schema.field(label).type),
  )


def require_pyarrow() -> Any:
  """Returns the package; raises ValueError if it is not installed."""
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError as error:  # An optional dependency.
    raise ValueError(
      'a Parquet file requires pyarrow, which is not installed; run'
      " pip install 'pyarrow>=18'"
    ) from error
  return pyarrow


@contextlib.contextmanager
def _open(path: str) -> Iterator[Any]:
  """Opens a file as `pyarrow.parquet.ParquetFile`.

  Raises:
    ValueError: if pyarrow is missing, or the file is damaged.
  """
  pyarrow = require_pyarrow()
  path = location.expand(path)
  regular_file.check(path)
  try:
    with path.open('rb') as file:
      # Without pre_buffer, only a few pages are in memory.
      yield pyarrow.parquet.ParquetFile(file, pre_buffer=False)
  except (pyarrow.ArrowException, OSError) as error:
    raise ValueError(
      f'{path} is not a complete Parquet file: {error}. Copy or download it'
      ' again.'
    ) from error


def _read_rows(path: str, columns: Columns) -> Iterator[tuple[Any, Any]]:
  """Yields image and label of every row."""
  names = [columns.image, columns.label]
  with _open(path) as file:
    for batch in file.iter_batches(_ROWS, columns=names, use_threads=False):
      yield from zip(
        *(batch.column(name).to_pylist() for name in names), strict=True
      )


def _item(
  name: str, image: Any, label: Any, split: str, columns: Columns
) -> Item:
  data, error = image, ''
  if isinstance(image, dict):
    data, path = image['bytes'], image.get('path')
    name = f'{name}/{os.path.basename(path)}' if path else name
  if data is None:
    error = 'no bytes of an image; only files that contain the images are read'
  values = label if isinstance(label, list) else [label]
  known = columns.names and range(len(columns.names))
  if None in values or (known and not all(v in known for v in values)):
    error = error or f'label {label} is no class'  # -1 in some test splits.
    values = ()
  return Item(
    name=name,
    labels=tuple(map(str, values)),
    data=data or b'',
    split=split,
    error=error,
  )


def _features(schema: Any) -> dict[str, Any]:
  """Returns the features of the Hub by column; empty if there are none."""
  metadata = (schema.metadata or {}).get(b'huggingface')
  if not metadata:
    return {}
  return json.loads(metadata).get('info', {}).get('features', {})


def _kind(feature: Any) -> str:
  return feature.get('_type', '') if isinstance(feature, dict) else ''


def _names(feature: Any) -> tuple[str, ...] | None:
  """Returns the class names of a feature of labels, or of lists of labels."""
  if isinstance(feature, list) and feature:
    feature = feature[0]
  elif _kind(feature) in ('Sequence', 'List', 'LargeList'):
    feature = feature.get('feature')
  if _kind(feature) == 'ClassLabel':
    return tuple(feature['names'])
  return None


def _is_image(kind: Any) -> bool:
  types = require_pyarrow().types
  if types.is_struct(kind) and kind.get_field_index('bytes') >= 0:
    kind = kind.field('bytes').type
  return types.is_binary(kind) or types.is_large_binary(kind)


def _is_list(kind: Any) -> bool:
  types = require_pyarrow().types
  return types.is_list(kind) or types.is_large_list(kind)


def _is_label(kind: Any) -> bool:
  types = require_pyarrow().types
  if _is_list(kind) or types.is_dictionary(kind):
    kind = kind.value_type
  return (
    types.is_integer(kind)
    or types.is_string(kind)
    or types.is_large_string(kind)
  )


def _choose(
  found: list[str],
  preferred: tuple[str, ...],
  path: str,
  what: str,
  names: list[str],
) -> str:
  """Returns the only column, or the first of the preferred ones."""
  if len(found) == 1:
    return found[0]
  for name in preferred:
    if name in found:
      return name
  raise ValueError(
    f'{path}: it is unclear which column has the {what};'
    f' its columns: {_listed(names)}. Write parquet:PATH,{what}=COLUMN.'
  )


def _listed(names: list[str]) -> str:
  return shortened.join(list(names), 20)
