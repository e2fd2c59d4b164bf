"""Interpolates and averages the weights of checkpoints."""

from collections.abc import Iterable
import math
from typing import Any

import jax
import numpy as np

from vit_jax.checkpoints import finite
from vit_jax.checkpoints.formats import official


def interpolate(
  start: dict[str, Any], end: dict[str, Any], alpha: float
) -> dict[str, Any]:
  """Returns (1 - alpha) start + alpha end, parameter by parameter.

  Alphas of 0 and 1 return `start` and `end` bit for bit; alphas outside of
  [0, 1] extrapolate.

  Raises:
    finite.NonFiniteError: if the result is not finite.
    ValueError: if the trees differ in names or shapes, or alpha is not finite.
  """
  if not math.isfinite(alpha):
    raise ValueError(f'alpha={alpha} is not finite; choose a finite number.')
  _check_equal_structure(start, end)
  if alpha in (0, 1):
    return end if alpha else start
  with np.errstate(over='ignore'):  # Checked below.
    result = jax.tree.map(
      lambda a, b: ((1 - alpha) * _wide(a) + alpha * _wide(b)).astype(a.dtype),
      start,
      end,
    )
  finite.check(result, f'weights at alpha={alpha}', '; choose a smaller alpha.')
  return result


def average(trees: Iterable[dict[str, Any]]) -> dict[str, Any]:
  """Returns the mean of several trees, parameter by parameter.

  Sums in float64, so the mean of equal trees is bit-identical to them. Trees
  may come from a generator; only the first one and the sum stay in memory.

  Raises:
    ValueError: if there are no trees, or they differ in names or shapes.
  """
  trees = iter(trees)
  first = next(trees, None)
  if first is None:
    raise ValueError('no checkpoints to average; pass at least one.')
  total, count = jax.tree.map(_wide, first), 1
  for tree in trees:
    count += 1
    _check_equal_structure(first, tree)
    total = jax.tree.map(lambda t, x: t + _wide(x), total, tree)
  return jax.tree.map(lambda t, x: (t / count).astype(x.dtype), total, first)


def _wide(array):
  return np.asarray(array).astype(np.float64)


def _check_equal_structure(left, right):
  left, right = (
    {name: x.shape for name, x in official.flatten(tree).items()}
    for tree in (left, right)
  )
  for name in left | right:
    if left.get(name) != right.get(name):
      one, other = (
        f'the shape {shapes[name]}' if name in shapes else 'no such parameter'
        for shapes in (left, right)
      )
      raise ValueError(
        f'the checkpoints are of different models: for {name!r}, one has {one}'
        f' and another has {other}; give checkpoints of one model, with heads'
        ' of equal size.'
      )
