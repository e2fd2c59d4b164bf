"""TensorFlow and TensorFlow Datasets (TFDS), imported on first use.

Importing them takes seconds, and commands that only read tables of this package
do not need them. Modules that import `tf` from here need
`from __future__ import annotations`; otherwise their annotations load it.
"""

import os

from etils import epy

# TensorFlow would log every example that it cannot read in several lines, even
# those that are skipped. Our own messages contain what matters.
if os.environ.get('TF_CPP_MIN_LOG_LEVEL') in (None, '1'):  # JAX sets 1.
  os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'


def hide_accelerators(module_name: str = '') -> None:
  """Leaves GPUs to JAX; TensorFlow would reserve all of their memory.

  This is the `success_callback` of every lazy import that loads TensorFlow.
  Repeated calls have no effect.
  """
  del module_name
  import tensorflow

  tensorflow.config.set_visible_devices([], 'GPU')


# Runs before any thread gets hold of either module.
with epy.lazy_imports(success_callback=hide_accelerators):
  import tensorflow as tf
  import tensorflow_datasets as tfds

__all__ = ['hide_accelerators', 'tf', 'tfds']
