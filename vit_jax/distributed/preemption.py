"""SIGTERM, which a machine gets before it is taken away."""

import signal
import threading


class StopSignal:
  """Notes a SIGTERM, so that the loop can save and end; a context manager."""

  def __init__(self):
    self._received = False

  def received(self) -> bool:
    """Whether SIGTERM has come since the context was entered."""
    return self._received

  def _note(self, *unused) -> None:
    self._received = True

  def __enter__(self) -> 'StopSignal':
    # Python takes handlers in the main thread only; elsewhere (a notebook's
    # worker) the signal keeps its meaning.
    self._installed = threading.current_thread() is threading.main_thread()
    if self._installed:
      self._previous = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *unused) -> None:
    if self._installed:
      signal.signal(signal.SIGTERM, self._previous)
