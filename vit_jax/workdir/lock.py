"""The lock of a work directory: one run per folder.

The file `lock` records which process on which host uses the folder, and since
when. It is removed at the end of the run. Where the file system supports
`flock`, as local ones and NFS do, the kernel releases the lock when the process
dies, for whatever reason. Elsewhere, such as on gs://, the process renews the
file every 5 seconds; a lock is stale if its process was on this host and is
dead, or if it has not been renewed for 60 seconds.
"""

from collections.abc import Callable, Iterator
import contextlib
import errno
import fcntl
import json
import logging
import os
import pathlib
import socket
import threading
import time
from typing import Any
import uuid

from etils import epath

from vit_jax.distributed import processes

_log = logging.getLogger(__name__)

_NAME = 'lock'
_RENEW_SECONDS = 5
_STALE_SECONDS = 60
_SETTLE_SECONDS = 2
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class LockedError(ValueError):
  """Another run uses the work directory."""


@contextlib.contextmanager
def hold(
  workdir: epath.Path, remedy: str = 'choose another --workdir'
) -> Iterator[None]:
  """Locks a work directory, in process 0 for all processes.

  A missing folder is created, and removed at the end if it is still empty. A
  folder without write permission is not locked.

  Args:
    workdir: the folder.
    remedy: what the user can do if another run does not end.

  Raises:
    LockedError: in all processes, if another run holds the lock.
  """
  with contextlib.ExitStack() as at_the_end:

    def take() -> str | None:
      folders = [] if _is_remote(workdir) else [workdir, *workdir.parents]
      for folder in reversed([x for x in folders if not x.exists()]):
        at_the_end.callback(_remove_if_empty, folder)
      try:
        at_the_end.callback(_take(workdir / _NAME))
      except LockedError as error:
        return (
          f'{error}; wait until it ends, stop it (SIGTERM lets it save first),'
          f' or {remedy}.'
        )
      return None

    if refusal := processes.from_first(take):
      raise LockedError(refusal)
    yield


def _take(path: epath.Path) -> Callable[[], None]:
  """Takes a lock; returns a function that releases it."""
  if _is_remote(path):
    return _take_heartbeat(path)
  try:
    return _take_flock(path)
  except OSError as error:
    if error.errno in _UNSUPPORTED:
      return _take_heartbeat(path)
    if error.errno in _READ_ONLY:
      return lambda: None
    raise


def _take_flock(path: epath.Path) -> Callable[[], None]:
  path.parent.mkdir(parents=True, exist_ok=True)
  file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    is_current = os.path.samestat(os.fstat(file), os.stat(path))
  except FileNotFoundError:
    is_current = False
  except OSError as error:
    os.close(file)
    if isinstance(error, BlockingIOError):
      raise LockedError(_refusal(path, _read(path))) from error
    raise
  if not is_current:  # An earlier run has removed it since it was opened.
    os.close(file)
    return _take_flock(path)
  with contextlib.suppress(OSError):  # The disk may be full.
    os.ftruncate(file, os.pwrite(file, _text(_describe()).encode(), 0))

  def release() -> None:
    with contextlib.suppress(OSError):
      path.unlink()
    os.close(file)

  return release


def _take_heartbeat(path: epath.Path) -> Callable[[], None]:
  content = _describe() | {'token': uuid.uuid4().hex}
  _wait_until_free(path)

  def renew() -> None:
    path.write_text(_text(content | {'renewed': time.time()}))

  def is_lost() -> bool:
    return _read(path).get('token', content['token']) != content['token']

  renew()
  # If several runs found the folder free, the last to write has the lock.
  time.sleep(_SETTLE_SECONDS)
  if is_lost():
    raise LockedError(_refusal(path, _read(path)))
  ended = threading.Event()

  def keep_renewing() -> None:
    while not ended.wait(_RENEW_SECONDS):
      with contextlib.suppress(Exception):  # gs:// may not answer.
        if is_lost():
          _log.warning('lost the lock: %s', _refusal(path, _read(path)))
          return
        renew()

  thread = threading.Thread(target=keep_renewing, daemon=True)
  thread.start()

  def release() -> None:
    ended.set()
    thread.join()
    with contextlib.suppress(Exception):
      if not is_lost():
        path.unlink()

  return release


def _wait_until_free(path: epath.Path) -> None:
  """Waits for a lock to become stale; raises LockedError if it is renewed.

  Clocks of different hosts are not compared.
  """
  first = _read(path)
  if not first or _is_dead(first):
    return
  _log.info(
    '%s is locked (%s); waiting up to %d s to see whether that run is alive',
    path.parent, _who(first), _STALE_SECONDS,
  )  # fmt: skip
  for _ in range(_STALE_SECONDS):
    time.sleep(1)
    now = _read(path)
    if not now:
      return
    if now != first:
      raise LockedError(_refusal(path, now))
  _log.warning('%s: the lock of %s is stale', path.parent, _who(first))


def _describe() -> dict[str, Any]:
  """Describes this process."""
  return {
    'host': socket.gethostname(),
    'process': os.getpid(),
    'since': time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime()),
    'boot': _boot_id(),
  }


def _boot_id() -> str:
  """Returns what distinguishes machines of the same name; '' if unknown."""
  try:
    return pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
  except OSError:
    return ''


def _is_dead(holder: dict[str, Any]) -> bool:
  """Returns whether the process is known to be dead."""
  here = _describe()
  if any(holder.get(key) != here[key] for key in ('host', 'boot')):
    return False
  try:
    os.kill(int(holder.get('process', 0)), 0)
  except ProcessLookupError:
    return True
  except (OSError, TypeError, ValueError):
    pass
  return False


def _text(content: dict[str, Any]) -> str:
  return json.dumps(content) + '\n'


def _read(path: epath.Path) -> dict[str, Any]:
  """Returns the content of a lock; empty if it is missing or incomplete."""
  try:
    content = json.loads(path.read_text())
  except (OSError, ValueError):
    return {}
  return content if isinstance(content, dict) else {}


def _who(holder: dict[str, Any]) -> str:
  if not {'process', 'host', 'since'} <= set(holder):
    return 'another process'
  return (
    f'process {holder["process"]} on {holder["host"]}, since {holder["since"]}'
  )


def _refusal(path: epath.Path, holder: dict[str, Any]) -> str:
  return f'{path.parent} is in use by another run ({_who(holder)})'


def _is_remote(path: epath.Path) -> bool:
  return '://' in str(path)


def _remove_if_empty(folder: epath.Path) -> None:
  with contextlib.suppress(OSError):
    os.rmdir(folder)
