"""Profiler traces of training steps."""

import logging

from etils import epath
import jax

from vit_jax import foreign_errors

_log = logging.getLogger(__name__)


class Profiler:
  """A profiler trace of some steps, written to the work directory."""

  def __init__(self, workdir: epath.Path, steps: tuple[int, int] | None):
    """Takes the first and the last step to record, counted from 0, or None."""
    self._folder = workdir / 'profile'
    self._steps = steps
    self._recording = False

  def before_step(self, step: int) -> None:
    """Starts or stops recording if this step calls for it."""
    if self._steps is None:
      return
    first, last = self._steps
    if first <= step <= last and not self._recording:
      jax.profiler.start_trace(str(self._folder))
      self._recording = True
    elif step > last:
      self._stop()

  def _stop(self) -> None:
    if self._recording:
      self._recording = False
      try:
        jax.profiler.stop_trace()
      except Exception as error:  # Such as a full disk; the run can do without.
        _log.warning(
          'cannot write the profiler trace to %s: %s',
          self._folder,
          foreign_errors.message(error),
        )
      else:
        _log.info('profiler trace in %s', self._folder)

  def __enter__(self) -> 'Profiler':
    return self

  def __exit__(self, *unused) -> None:
    self._stop()
