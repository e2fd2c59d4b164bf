"""Signals that stop training: SIGTERM, before a machine is lost, and Ctrl-C."""

import os
import signal
import threading

import jax
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
  """Records SIGTERM and SIGINT, so that the training loop saves and stops.

  A context manager. With `jax.distributed`, whose own handler receives SIGTERM,
  either signal to any process stops all of them at the same step. Otherwise,
  SIGINT (Ctrl-C) raises KeyboardInterrupt at the end of the block, and a second
  one does so at once.

  Attributes:
    stopped: whether `received` has returned True.
  """

  def __init__(self):
    self.stopped = False
    self._received: signal.Signals | None = None
    self._previous = {}

  def received(self, step: int) -> bool:
    """Returns whether to stop now; must be called after every step."""
    if jax.distributed.is_initialized():
      self.stopped = multihost_utils.reached_preemption_sync_point(step)
    else:
      self.stopped = self._received is not None
    return self.stopped

  @property
  def name(self) -> str:
    """Name of the signal that stopped the run."""
    return 'Ctrl-C' if self._received == signal.SIGINT else 'SIGTERM'

  def _note(self, number: int, frame) -> None:
    del frame
    if number == signal.SIGINT:
      if self._received == signal.SIGINT:
        raise KeyboardInterrupt
      if jax.distributed.is_initialized():
        os.kill(os.getpid(), signal.SIGTERM)
        return
    self._received = signal.Signals(number)

  def __enter__(self) -> 'StopSignal':
    # Python only accepts handlers in the main thread, so the signals keep their
    # default effect in others, such as the worker thread of a notebook.
    if threading.current_thread() is threading.main_thread():
      for number in _SIGNALS:
        if number == signal.SIGTERM and jax.distributed.is_initialized():
          continue
        if signal.getsignal(number) != signal.SIG_IGN:
          self._previous[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, kind, *unused) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    if kind is not None or self._received is None:
      return
    if self._received == signal.SIGINT:
      raise KeyboardInterrupt
    if not self.stopped:  # It came after the last step.
      signal.raise_signal(self._received)
