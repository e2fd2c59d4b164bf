"""SIGTERM, which a machine gets before it is taken away."""

import signal
import threading

import jax
from jax.experimental import multihost_utils


class StopSignal:
  """Tells the loop to save and end after a SIGTERM; a context manager.

  With `jax.distributed`, a notice to any process counts for all: its own
  handler takes the signal, and it agrees on a step that none has passed.
  """

  def __init__(self):
    self._received = False
    self._installed = False

  def received(self, step: int) -> bool:
    """Whether to stop at this step; to be asked after every one."""
    if jax.distributed.is_initialized():
      return multihost_utils.reached_preemption_sync_point(step)
    return self._received

  def _note(self, *unused) -> None:
    self._received = True

  def __enter__(self) -> 'StopSignal':
    # Python takes handlers in the main thread only; elsewhere (a notebook's
    # worker) the signal keeps its meaning.
    self._installed = (
      threading.current_thread() is threading.main_thread()
      and not jax.distributed.is_initialized()
    )
    if self._installed:
      self._previous = signal.signal(signal.SIGTERM, self._note)
    return self

  def __exit__(self, *unused) -> None:
    if self._installed:
      signal.signal(signal.SIGTERM, self._previous)
