"""Reads the members of tar archives, one after another.

The archive may be compressed with gzip, or be itself a member of an archive.
Python's `tarfile` ends silently at a damaged header, as if nothing followed;
here, an archive is read to its end mark, or an error says where it is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import gzip
import os
import tarfile
from typing import Any
import zlib

from vit_jax.checkpoints import location, regular_file
from vit_jax.data import listing

EXTENSIONS = ('.tar', '.tar.gz', '.tgz')
GZIP_MAGIC = b'\x1f\x8b'
_MAX_BYTES = 2**30  # Of a member; TensorFlow's records end at twice as many.
_MAX_PADDING = 2**16  # Bytes after the end mark that are checked.


def is_archive(name: str) -> bool:
  """Returns whether a file is a tar archive according to its name."""
  return name.lower().endswith(EXTENSIONS) and not name.startswith('.')


class Stream:
  """A part of a file that is read from its start to its end.

  Attributes:
    last: the result of the last `read`.
    base: position of the part in a file on disk; None if it is compressed.
    description: what it is a part of, for messages.
  """

  def __init__(
    self,
    file: Any,
    description: str,
    *,
    start: int = 0,
    size: int | None = None,
    base: int | None = 0,
  ):
    """Describes bytes `start` to `start + size` of a file object."""
    self._file, self._start, self._size = file, start, size
    self._position = 0
    self.last = b''
    self.base = base
    self.description = description

  def read(self, size: int) -> bytes:
    """Reads up to `size` bytes."""
    if self._size is not None:
      size = max(min(size, self._size - self._position), 0)
    self.last = self._file.read(size)
    self._position += len(self.last)
    return self.last

  def seek(self, position: int) -> None:
    """Moves to a position in the part."""
    self._file.seek(self._start + position)
    self._position = position

  def tell(self) -> int:
    """Returns the position in the part."""
    return self._position

  def member(self, name: str, start: int, size: int) -> Stream:
    """Returns a part of this part; the two must not be read alternately."""
    base = None if self.base is None else self.base + start
    description = f'{self.description}, {name} in it'
    return Stream(self, description, start=start, size=size, base=base)


@dataclasses.dataclass(frozen=True)
class Member:
  """A regular file in an archive, or a link.

  Attributes:
    name: path in the archive.
    size: number of bytes.
    start: position of its content in `archive`.
    archive: the archive, uncompressed; at `start` when the member is yielded.
    error: why it has no content that can be read; empty if it has.
  """

  name: str
  size: int
  start: int
  archive: Stream
  error: str = ''

  @property
  def offset(self) -> int | None:
    """Position of its content in the file on disk; None if compressed."""
    base = self.archive.base
    return None if base is None else base + self.start

  def read(self) -> bytes:
    """Returns its content; only until the next member is yielded.

    Raises:
      ValueError: if the archive ends before.
    """
    with _explained(self.archive, lambda: self.start):
      self.archive.seek(self.start)
      data = self.archive.read(self.size)
      if len(data) < self.size:
        raise tarfile.ReadError(
          f'it ends within {self.name}, after {len(data)} of {self.size} bytes'
        )
    return data

  def open(self) -> Stream:
    """Returns its content, an archive; only until the next one is yielded."""
    return self.archive.member(self.name, self.start, self.size)


@contextlib.contextmanager
def open_file(
  path: str | os.PathLike[str], offset: int = 0, size: int | None = None
) -> Iterator[Stream]:
  """Opens an archive in a file, compressed or not.

  Args:
    path: the file.
    offset, size: the part of the file that is the archive, if it is another
      archive's member.

  Raises:
    ValueError: if it is not a regular file.
  """
  path = location.expand(path)
  regular_file.check(path)
  description = os.fspath(path)
  if offset:
    description += f', archive at byte {offset:,}'
  with path.open('rb') as file:
    file.seek(offset)
    yield Stream(file, description, start=offset, size=size, base=offset)


def members(archive: Stream) -> Iterator[Member]:
  """Yields the files of an archive; one is in memory at a time.

  Folders and special files are left out. Hard and symbolic links, and sparse
  files, are yielded with an error: their content lies elsewhere.

  Raises:
    ValueError: if it is not an archive, damaged, or cut off; the message has
      the file and the position.
  """
  archive = _uncompressed(archive)
  tar = None
  with _explained(archive, lambda: tar.offset if tar else 0):
    tar = tarfile.TarFile(
      fileobj=archive, encoding='utf-8', errors='surrogateescape'
    )
  while True:
    with _explained(archive, lambda: tar.offset):
      info = tar.next()
    if info is None:
      break
    tar.members.clear()  # Otherwise, all of them stay in memory.
    if error := _why_unreadable(info):
      size = 0
    elif info.isreg():
      size = info.size
    else:
      continue
    yield Member(
      listing.as_text(info.name), size, info.offset_data, archive, error
    )
  with _explained(archive, lambda: tar.offset):
    _check_end(archive)


def _uncompressed(archive: Stream) -> Stream:
  with _explained(archive, lambda: 0):
    magic = archive.read(len(GZIP_MAGIC))
  archive.seek(0)
  if magic != GZIP_MAGIC:
    return archive
  file = gzip.GzipFile(fileobj=archive, mode='rb')
  return Stream(file, f'{archive.description}, uncompressed', base=None)


def _why_unreadable(info: tarfile.TarInfo) -> str:
  if info.islnk() or info.issym():
    return f'a link to {listing.as_text(info.linkname)}, not a file'
  if info.issparse():
    return 'a sparse file, whose content is not stored in one piece'
  if info.isreg() and info.size > _MAX_BYTES:
    return f'{info.size:,} bytes, more than the {_MAX_BYTES:,} of an image'
  return ''


def _check_end(archive: Stream) -> None:
  """Checks that reading stopped at an end mark, a block of zeros."""
  block = archive.last
  if len(block) < tarfile.BLOCKSIZE:
    raise tarfile.ReadError('it is cut off, without an end mark')
  if any(block):
    raise tarfile.ReadError('damaged header')
  if any(archive.read(_MAX_PADDING)):
    raise tarfile.ReadError(
      'data after the end mark, as if archives were concatenated'
    )


@contextlib.contextmanager
def _explained(archive: Stream, position: Callable[[], int]) -> Iterator[None]:
  try:
    yield
  except (
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    OverflowError,
    ValueError,  # Of numbers in extended headers.
  ) as error:
    where = position() + (archive.base or 0)
    raise ValueError(
      f'{archive.description}: no complete tar archive; at byte {where:,}:'
      f' {error}. Copy or download the archive again.'
    ) from error
