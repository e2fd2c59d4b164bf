"""The first pass: reads, checks and hashes every image of the original.

The index of a unit is a file with one line per image, named by a hash of the
unit. It is written when the unit has been read completely, so a preparation
resumes with the units that have no index yet.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json

from etils import epath

from vit_jax.checkpoints import atomic
from vit_jax.data.preparation import images
from vit_jax.data.preparation.original import Item, Unit

_UNREADABLE = '.unreadable'  # Marks units with such images.


@dataclasses.dataclass(frozen=True)
class Entry:
  """An image in the index.

  Attributes:
    name, split, labels, file, offset: see `original.Item`.
    size: number of bytes.
    digest: hash of the bytes, hexadecimal.
    convert: whether the image has to be converted to PNG.
    error: why it cannot be read; empty if it can.
  """

  name: str
  split: str
  labels: tuple[str, ...]
  file: str = ''
  offset: int = 0
  size: int = 0
  digest: str = ''
  convert: bool = False
  error: str = ''

  def line(self) -> bytes:
    """Returns the entry as a line of an index file."""
    values = [getattr(self, f.name) for f in dataclasses.fields(self)]
    return json.dumps(values).encode() + b'\n'

  @classmethod
  def parse(cls, line: bytes) -> Entry:
    """Returns the entry of a line."""
    name, split, labels, *others = json.loads(line)
    return cls(name, split, tuple(labels), *others)


def hash_bytes(data: bytes) -> str:
  """Returns the hash by which images are compared."""
  return hashlib.blake2b(data, digest_size=16).hexdigest()


def index_path(folder: epath.Path, unit: Unit) -> epath.Path:
  """Returns the path of the index of a unit."""
  digest = hash_bytes(repr(unit).encode(errors='surrogateescape'))
  return folder / f'{digest}.jsonl'


def forget_unreadable(folder: epath.Path) -> None:
  """Removes the indexes of units with images that could not be read."""
  for mark in folder.glob(f'*{_UNREADABLE}'):
    mark.with_suffix('.jsonl').unlink(missing_ok=True)
    mark.unlink()


def index_unit(unit: Unit, folder: epath.Path, max_pixels: int) -> int:
  """Writes the index of a unit; returns the number of its images.

  Args:
    unit: the unit.
    folder: folder of all index files. It also gets the images that cannot be
      read by their offset in a file.
    max_pixels: largest height times width of an image.
  """
  count = 0
  with contextlib.ExitStack() as at_the_end:
    # What is entered first ends last: the index appears after the images.
    path = index_path(folder, unit)
    temporary = at_the_end.enter_context(atomic.renamed(path))
    file = at_the_end.enter_context(temporary.open('wb'))
    spool = _Spool(path.with_suffix('.images'), at_the_end)
    for item in unit.items():
      entry = _entry(item, spool, max_pixels)
      if entry.error:
        path.with_suffix(_UNREADABLE).touch()
      file.write(entry.line())
      count += 1
  return count


def _entry(item: Item, spool: _Spool, max_pixels: int) -> Entry:
  entry = Entry(item.name, item.split, item.labels)
  if item.error:
    return dataclasses.replace(entry, error=item.error)
  try:
    convert = images.must_be_converted(item.data, max_pixels)
  except ValueError as error:
    return dataclasses.replace(entry, error=str(error))
  file, offset = item.file, item.offset
  if not file:
    file, offset = spool.append(item.data)
  return dataclasses.replace(
    entry,
    file=file,
    offset=offset,
    size=len(item.data),
    digest=hash_bytes(item.data),
    convert=convert,
  )


class _Spool:
  """A file of images, which appears at the end if there are any."""

  def __init__(self, path: epath.Path, at_the_end: contextlib.ExitStack):
    self._path = path
    self._at_the_end = at_the_end
    self._file = None
    self._size = 0

  def append(self, data: bytes) -> tuple[str, int]:
    """Appends an image; returns the path of the file and the offset."""
    if self._file is None:
      temporary = self._at_the_end.enter_context(atomic.renamed(self._path))
      self._file = self._at_the_end.enter_context(temporary.open('wb'))
    offset = self._size
    self._file.write(data)
    self._size += len(data)
    return str(self._path), offset
