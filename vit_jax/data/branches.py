"""Branches of `tf.cond` that cost nothing unless they are taken."""

from __future__ import annotations

from collections.abc import Callable

from vit_jax.data.lazy_tensorflow import tf


def rare(function: Callable[[], tf.Tensor]) -> Callable[[], tf.Tensor]:
  """Returns a branch for `tf.cond` that is cheap unless it is taken.

  TensorFlow inlines branches and visits every operation of those that are not
  taken. This one is a single operation.
  """
  if tf.executing_eagerly():
    return function
  return tf.function(
    function, autograph=False, experimental_attributes={'_noinline': True}
  )
