"""Original data in image files: a folder of class folders, or a table."""

from __future__ import annotations

from collections.abc import Collection, Iterator
import dataclasses
import os

from etils import epath
import numpy as np

from vit_jax.checkpoints import regular_file
from vit_jax.data import folder, listing, table_source
from vit_jax.data.file_source import Files
from vit_jax.data.preparation import workers
from vit_jax.data.preparation.original import Item, Original, Unit

_FILES_PER_UNIT = 5_000


def open_folder(path: str) -> Original:
  """Opens a folder of class folders; see `folder.open_folder`.

  If it has no folders for splits, all images are in the split train.
  """
  return FileOriginal(folder.list_files(path))


def open_table(argument: str) -> Original:
  """Opens a table of image files; see `table_source`.

  If it has no splits, all images are in the split train.
  """
  return FileOriginal(table_source.read_files(argument))


class FileOriginal(Original):
  """Image files and their labels."""

  def __init__(self, files: Files):
    self._files = files
    self.multi_label = not isinstance(files.labels, np.ndarray)

  def units(self) -> Iterator[Unit]:  # noqa: D102
    files = self._files
    split_names, splits = ['train'], np.zeros(len(files.names), np.int32)
    if not files.is_divided:
      split_names = list(files.splits)
      for number, name in enumerate(split_names):
        splits[files.splits[name]] = number
    for start in range(0, len(files.names), _FILES_PER_UNIT):
      part = slice(start, start + _FILES_PER_UNIT)
      yield ImageFiles(
        files.prefix,
        tuple(files.names.take(part)),
        tuple(split_names[k] for k in splits[part]),
        tuple(map(tuple, files.labels_of(part))),
      )

  def class_names(self, labels: Collection[str]) -> dict[str, str]:  # noqa: D102
    return {name: name for name in self._files.class_names}


@dataclasses.dataclass(frozen=True)
class ImageFiles(Unit):
  """Image files.

  Attributes:
    prefix: what precedes each name in its path.
    names: name of every file.
    splits: split of every file.
    labels: labels of every file.
  """

  prefix: str
  names: tuple[bytes, ...]
  splits: tuple[str, ...]
  labels: tuple[tuple[str, ...], ...]

  def items(self) -> Iterator[Item]:  # noqa: D102
    files = zip(self.names, self.splits, self.labels, strict=True)
    for (name, split, labels), content in workers.read_ahead(self._read, files):
      yield Item(
        name=listing.as_text(name),
        labels=labels,
        split=split,
        file=self._path(name),
        **content,
      )

  def _path(self, name: bytes) -> str:
    return self.prefix + os.fsdecode(name)

  def _read(self, file: tuple[bytes, str, tuple[str, ...]]) -> dict:
    """Returns the fields `data` and `error` of an item."""
    path = self._path(file[0])
    if regular_file.is_special(path):
      return {'data': b'', 'error': 'it is a FIFO, a socket or a device'}
    try:
      return {'data': epath.Path(path).read_bytes()}
    except OSError as error:
      return {'data': b'', 'error': str(error)}
