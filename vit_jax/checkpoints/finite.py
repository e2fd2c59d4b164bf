"""Checks arrays for NaN and infinity."""

from collections.abc import Iterator
import contextlib

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
import numpy as np

_MAX_NAMED = 3


class NonFiniteError(ValueError):
  """Weights, outputs or metrics became NaN or infinite."""


def check(tree: PyTree, place: str, advice: str = '') -> None:
  """Checks the arrays of a tree.

  If the arrays are sharded over several processes, all of them must call this.

  Args:
    tree: numbers, NumPy arrays, or JAX arrays, which are checked on their
      devices.
    place: start of the message: what is checked, or at which step.
    advice: end of the message: what to do.

  Raises:
    NonFiniteError: if an array holds a NaN or an infinity; the message names
      such arrays.
  """
  bad = non_finite(tree)
  if not bad:
    return
  more = len(bad) - _MAX_NAMED
  named = ', '.join(bad[:_MAX_NAMED]) + (
    f' and {more} more' if more > 0 else ''
  )
  raise NonFiniteError(f'{place}: NaN or infinite values in {named}{advice}')


def non_finite(tree: PyTree) -> list[str]:
  """Returns the paths of the arrays that hold a NaN or an infinity."""
  # One small program per shape: a single one for all arrays of a large model
  # would take seconds to compile. They run one after another, since collectives
  # of concurrent programs can deadlock on CPUs.
  return [
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
    if not (
      _all_finite(x) if isinstance(x, jax.Array) else np.isfinite(x).all()
    )
  ]


@jax.jit
def _all_finite(x):
  return jnp.isfinite(x).all()


@contextlib.contextmanager
def located(place: str) -> Iterator[None]:
  """Prefixes the message of a NonFiniteError raised inside with a place."""
  try:
    yield
  except NonFiniteError as error:
    raise NonFiniteError(f'{place}: {error}') from error
