"""Failed writes of a run, such as on a full disk, are kept and retried.

Inside `keeping`, a write that fails does not end the run. A warning is logged,
and the data stays in memory until the next write to the same file or `flush`,
whichever comes first. Elsewhere, failures are raised.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import logging
import shutil
import time

from etils import epath

from vit_jax import foreign_errors

_log = logging.getLogger(__name__)

_MOST_FILES = 256
_SECONDS_BETWEEN_WARNINGS = 600


class WriteError(OSError):
  """A file could not be written."""


class Outage:
  """Warns of a repeated failure, but at most once every 10 minutes."""

  def __init__(self):
    self._warned_at: float | None = None

  def failed(self, message: str) -> None:
    """Logs a failure unless a warning was logged recently."""
    now = time.monotonic()
    last = self._warned_at
    if last is None or now - last >= _SECONDS_BETWEEN_WARNINGS:
      self._warned_at = now
      _log.warning(message)

  def succeeded(self, message: str) -> None:
    """Logs the end of the outage, if there was one."""
    if self._warned_at is not None:
      self._warned_at = None
      _log.info(message)


@dataclasses.dataclass
class _Write:
  path: epath.Path
  size_bytes: int
  attempt: Callable[[], None]
  outage: Outage


_kept: dict[str, _Write] | None = None  # By path; None outside of `keeping`.


@contextlib.contextmanager
def keeping() -> Iterator[None]:
  """Keeps the writes that fail in this context, and retries them at its end.

  Raises:
    WriteError: at the end, if a write fails again.
  """
  global _kept
  if _kept is not None:
    raise RuntimeError('failed writes are being kept already.')
  _kept = {}
  try:
    yield
    flush()
  except BaseException:
    with contextlib.suppress(WriteError):  # An earlier error is being raised.
      flush()
    raise
  finally:
    _kept = None


def write(
  path: epath.Path, size_bytes: int, attempt: Callable[[], None]
) -> None:
  """Writes a file, in place of a kept write to the same path.

  Args:
    path: the file.
    size_bytes: how much is written, for messages.
    attempt: writes it, and may be called again after a failure.

  Raises:
    WriteError: if it fails and cannot be kept, either outside of `keeping` or
      because too many writes are kept already.
  """
  keep(path, size_bytes, attempt)
  if _kept is None:
    return
  write = _kept[str(path)]
  try:
    _try(write)
  except WriteError as error:
    if len(_kept) > _MOST_FILES:
      raise
    write.outage.failed(f'{error} The run continues and tries again later.')


def keep(
  path: epath.Path, size_bytes: int, attempt: Callable[[], None]
) -> None:
  """Same as `write`, but leaves the first attempt to `flush`, if possible."""
  earlier = _kept and _kept.get(str(path))
  write = _Write(
    path, size_bytes, attempt, earlier.outage if earlier else Outage()
  )
  if _kept is None:
    _try(write)
  else:
    _kept[str(path)] = write


def flush() -> None:
  """Retries all kept writes.

  Raises:
    WriteError: the first failure, after all were tried.
  """
  failures = []
  for write in list((_kept or {}).values()):
    try:
      _try(write)
    except WriteError as error:
      failures.append(error)
  if failures:
    raise failures[0]


def free_space(folder: epath.Path) -> int | None:
  """Returns the free bytes of a file system; None if unknown, as on gs://."""
  try:
    return shutil.disk_usage(folder).free
  except OSError:
    return None


def _try(write: _Write) -> None:
  try:
    write.attempt()
  except Exception as error:  # Libraries for gs:// have types of their own.
    cause = getattr(error, 'strerror', None) or foreign_errors.message(error)
    free = free_space(write.path.parent)
    space = '' if free is None else f', and {free:,} are free there'
    raise WriteError(
      f'{write.path} could not be written: {cause}. It takes'
      f' {write.size_bytes:,} bytes{space}.'
    ) from error
  if _kept:
    _kept.pop(str(write.path), None)
  write.outage.succeeded(f'{write.path} can be written again')
