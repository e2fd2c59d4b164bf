"""TensorFlow and TensorFlow Datasets (TFDS), imported on first use.

Importing them takes seconds, and commands that only read tables of this package
do not need them. Modules that import `tf` from here need
`from __future__ import annotations`; otherwise their annotations load it.
"""

from collections.abc import Iterator
import contextlib
import functools
import importlib
import os
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

# TensorFlow would log every example that it cannot read in several lines, even
# those that are skipped. Our own messages contain what matters.
if os.environ.get('TF_CPP_MIN_LOG_LEVEL') in (None, '1'):  # JAX sets 1.
  os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'

_KERAS = 'keras.src'


class _LazyModule:
  """A module that is imported at the first use of an attribute; thread-safe."""

  _lock = threading.RLock()  # Shared: TFDS imports TensorFlow.

  def __init__(self, name: str):
    self._name = name

  @functools.cached_property
  def _module(self) -> ModuleType:
    with self._lock, _without_keras():
      module = importlib.import_module(self._name)
      _hide_accelerators()
      return module

  def __getattr__(self, name: str) -> Any:
    return getattr(self._module, name)


def _hide_accelerators() -> None:
  """Leaves GPUs to JAX; TensorFlow would reserve all of their memory."""
  import tensorflow

  tensorflow.config.set_visible_devices([], 'GPU')


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
  """Prevents TensorFlow from importing Keras.

  Keras imports SciPy, scikit-learn and Matplotlib, which takes as long as
  TensorFlow itself. TensorFlow imports it only to register its optimizers, and
  continues if that fails. A later use of `tf.keras` imports it as usual.
  """
  if _KERAS in sys.modules:
    yield
    return
  sys.modules[_KERAS] = None
  try:
    yield
  finally:
    del sys.modules[_KERAS]


if TYPE_CHECKING:
  import tensorflow as tf
  import tensorflow_datasets as tfds
else:
  tf = _LazyModule('tensorflow')
  tfds = _LazyModule('tensorflow_datasets')

__all__ = ['tf', 'tfds']
