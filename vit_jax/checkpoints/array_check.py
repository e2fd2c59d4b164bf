"""Checks the arrays of a weight file."""

import jax.numpy as jnp
import numpy as np

from vit_jax.checkpoints.finite import NonFiniteError


def check_type(name: str, dtype: np.dtype) -> None:
  """Checks that arrays of a type hold floating-point numbers.

  Raises:
    ValueError: if they do not.
  """
  if not jnp.issubdtype(dtype, jnp.floating):
    text = str(dtype)
    raise ValueError(
      f'parameter {name!r} is of type {text[:80]}{"..." * (len(text) > 80)};'
      ' expected floating-point numbers, such as float32. Convert it, or leave'
      ' it out if it is not a parameter of the model.'
    )


def check(name: str, array: np.ndarray) -> None:
  """Checks that an array holds finite floating-point numbers.

  Args:
    name: name of the array in the file, for messages.
    array: the array as stored.

  Raises:
    NonFiniteError: if a number is infinite or NaN, or would be infinite in
      float32.
    ValueError: see `check_type`.
  """
  check_type(name, array.dtype)
  with np.errstate(over='ignore'):
    finite = np.isfinite(array.astype(np.float32, copy=False))
  if not finite.all():
    where = np.unravel_index(np.argmin(finite), array.shape)
    raise NonFiniteError(
      f'parameter {name!r} is not finite in float32'
      f' ({array.size - np.count_nonzero(finite)} of {array.size} values, such'
      f' as {array[where]} at {tuple(map(int, where))}); the file is damaged,'
      ' or training diverged.'
    )
