"""Ctrl-C (SIGINT) ends the program with one line instead of a traceback.

Imports only the standard library, as `main` uses it before all other imports.
"""

from collections.abc import Iterator
import contextlib
import logging
import os
import select
import shlex
import signal
import socket
import sys
import threading
from typing import NoReturn

EXIT_CODE = 130  # That of a shell: 128 + SIGINT.

# Native code may never return to Python, where KeyboardInterrupt is raised.
_SECONDS_TO_UNWIND = 5

_log = logging.getLogger(__name__)


def exit_during_imports() -> None:
  """Lets Ctrl-C exit at once, while there is nothing to clean up."""
  # In a background job of a shell script, SIGINT is ignored, and remains so.
  if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, _exit)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
  """On Ctrl-C in this context, exits with one line that says how to continue.

  The first one raises KeyboardInterrupt or, during training, saves and stops. A
  second one exits at once, even from native code.
  """
  if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    yield
    return
  reader, writer = socket.socketpair()
  writer.setblocking(False)
  signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
  threading.Thread(target=_watch, args=(reader,), daemon=True).start()
  sys.unraisablehook = _unraisable
  signal.signal(signal.SIGINT, _raise)
  try:
    yield
  except BaseException as error:
    # Libraries may turn KeyboardInterrupt into an error of their own.
    if _raised or isinstance(error, KeyboardInterrupt):
      sys.stdout.flush()
      _exit()
    raise


_raised = False


def _raise(*unused) -> NoReturn:
  global _raised
  _raised = True
  raise KeyboardInterrupt


def _unraisable(unraisable) -> None:
  # Python would print the traceback and continue.
  if issubclass(unraisable.exc_type, KeyboardInterrupt):
    _exit()
  sys.__unraisablehook__(unraisable)


def _watch(reader: socket.socket) -> None:
  """Exits at a second Ctrl-C, or if the first one has no effect."""
  _wait(reader)
  if signal.getsignal(signal.SIGINT) is _raise:
    _wait(reader, _SECONDS_TO_UNWIND)
  else:
    _log.info(
      'Ctrl-C: the run will stop after this step, with a checkpoint; press'
      ' Ctrl-C again to stop at once'
    )
    _wait(reader)
  _exit()


def _wait(reader: socket.socket, seconds: float | None = None) -> None:
  """Waits until SIGINT is received, or for some seconds."""
  while select.select([reader], [], [], seconds)[0]:
    if reader.recv(1) == bytes([signal.SIGINT]):
      return


def _exit(*unused) -> NoReturn:
  command = shlex.join(sys.orig_argv)
  # Neither locks nor buffers: this may run in a signal handler.
  os.write(2, f'interrupted; to continue, type: {command}\n'.encode())
  os._exit(EXIT_CODE)
