"""Preemption: SIGTERM, which precedes the loss of a machine."""

import signal
import threading

import jax
from jax.experimental import multihost_utils


class StopSignal:
  """Records a SIGTERM, so that the training loop saves and stops.

  A context manager. With `jax.distributed`, whose own handler receives the
  signal, a SIGTERM to any process stops all of them at the same step.
  """

  def __init__(self):
    self._received = False
    self._installed = False

  def received(self, step: int) -> bool:
    """Returns whether to stop now; must be called after every step."""
    if jax.distributed.is_initialized():
      return multihost_utils.reached_preemption_sync_point(step)
    return self._received

  def _note(self, *unused) -> None:
    self._received = True

  def __enter__(self) -> 'StopSignal':
    # Python only accepts handlers in the main thread, so the signal keeps its
    # default effect in others, such as the worker thread of a notebook.
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
