"""Errors of TensorFlow operations that read examples, in plain words."""

from __future__ import annotations

import re

from vit_jax.data.lazy_tensorflow import tf

# What TensorFlow adds to the message of a failed operation.
_ADDED = re.compile(
  r'\{\{[^}]*\}\} ?|\[\[.*?\]\]|\[Op:[^\]]*\]( name: ?)?'
  r'|Error in user-defined function passed to \S+ transformation with iterator:'
  r' \S+: |^(\w+Error: )+',
  re.MULTILINE,
)
_ADDED_LINE = re.compile(r'Graph execution error|Detected at node|\s*File "')
_FAILED = 'assertion failed: '


def require(
  condition: tf.Tensor, *parts: str | tf.Tensor
) -> tf.Operation | None:
  """Returns an operation that fails unless the condition holds.

  Args:
    condition: a scalar.
    *parts: of the message: texts and int32 scalars.

  Raises:
    tf.errors.InvalidArgumentError: if the condition is known to be false.
  """
  if not tf.executing_eagerly():
    return tf.debugging.Assert(condition, list(parts))
  if not condition:
    text = ' '.join(p if isinstance(p, str) else f'{int(p)}' for p in parts)
    raise tf.errors.InvalidArgumentError(None, None, text)
  return None


def reason(error: tf.errors.OpError) -> str:
  """Returns in one line why an operation failed."""
  lines = _ADDED.sub('', error.message or '').splitlines()
  lines = [x.strip() for x in lines if x.strip() and not _ADDED_LINE.match(x)]
  text = lines[0] if lines else type(error).__name__
  if text.startswith(_FAILED):
    text = ' '.join(re.findall(r'\[(.*?)\]', text))
  return text.rstrip('.')
