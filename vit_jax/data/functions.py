"""Parts of a TensorFlow graph that cost nothing unless they are executed."""

from __future__ import annotations

from collections.abc import Callable

from vit_jax.data.lazy_tensorflow import tf


def separate(function: Callable[[], tf.Tensor]) -> Callable[[], tf.Tensor]:
  """Returns a branch for `tf.cond` that is rarely taken.

  TensorFlow inlines the branches of a condition and visits every operation of
  those that are not taken. This branch is a single operation.
  """
  if tf.executing_eagerly():
    return function
  return tf.function(
    function, autograph=False, experimental_attributes={'_noinline': True}
  )
