"""A file to which a run appends."""

import contextlib
import os
import time

from etils import epath

from vit_jax.checkpoints import atomic, backlog


class AppendedFile:
  """An append-only file.

  Data that cannot be written is kept and written later, after the remains of
  the failed write are removed; see `backlog`.
  """

  def __init__(
    self,
    path: epath.Path,
    content: bytes = b'',
    *,
    seconds_between_writes: float = 0,
  ):
    """Replaces the file, unless it has this content already.

    Args:
      path: the file.
      content: its initial content.
      seconds_between_writes: how long appended data may stay in memory; it is
        written by `backlog.flush` in any case.
    """
    self._path = path
    self._size = 0  # Of the part known to be intact.
    self._unwritten = content
    self._exists = False
    self._is_torn = False  # Whether it may end with part of a write.
    self._interval = seconds_between_writes
    self._written_at = -float('inf')
    if path.exists() and path.read_bytes() == content:
      self._unwritten, self._size, self._exists = b'', len(content), True
    else:
      self.append(b'')

  def append(self, data: bytes) -> None:
    """Appends data."""
    self._unwritten += data
    is_due = time.monotonic() - self._written_at >= self._interval
    write = backlog.write if is_due else backlog.keep
    write(self._path, len(self._unwritten), self._write)

  def _write(self) -> None:
    if not self._exists:
      atomic.replace(self._path, self._unwritten)
    else:
      if self._is_torn:
        with contextlib.suppress(FileNotFoundError):  # Nothing to cut on gs://.
          os.truncate(self._path, self._size)
      self._is_torn = True
      with self._path.open('ab') as file:
        file.write(self._unwritten)
    self._is_torn, self._exists = False, True
    self._size += len(self._unwritten)
    self._unwritten = b''
    self._written_at = time.monotonic()
