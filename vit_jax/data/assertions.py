"""Assertions about an example that is being read."""

from __future__ import annotations

from vit_jax.data.lazy_tensorflow import tf


def require(
  condition: tf.Tensor, *parts: str | tf.Tensor
) -> tf.Operation | None:
  """Returns an operation that fails unless the condition holds.

  In eager mode, checks the condition at once and returns None.

  Args:
    condition: a boolean scalar.
    *parts: parts of the error message: strings and int32 scalars.

  Raises:
    tf.errors.InvalidArgumentError: in eager mode, if the condition is false.
  """
  if not tf.executing_eagerly():
    return tf.debugging.Assert(condition, list(parts))
  if not condition:
    text = ' '.join(p if isinstance(p, str) else f'{int(p)}' for p in parts)
    raise tf.errors.InvalidArgumentError(None, None, text)
  return None
