"""TensorFlow and TensorFlow Datasets (TFDS), imported on first use.

Importing them takes seconds, which commands that only read tables of this
package do not spend. Modules that import `tf` from here need
`from __future__ import annotations`; otherwise their annotations load it.
"""

from etils import epy


def _hide_accelerators(module_name: str) -> None:
  """Leaves accelerators to JAX; TensorFlow would reserve all their memory."""
  del module_name
  import tensorflow

  tensorflow.config.set_visible_devices([], 'GPU')


# Runs before any thread gets hold of either module.
with epy.lazy_imports(success_callback=_hide_accelerators):
  import tensorflow as tf
  import tensorflow_datasets as tfds

__all__ = ['tf', 'tfds']
