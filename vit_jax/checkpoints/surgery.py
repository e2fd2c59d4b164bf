"""Arithmetic on weights: pure functions on arrays and trees of parameters."""

from collections.abc import Iterable
from typing import Any

import jax
from jaxtyping import Float
import numpy as np

from vit_jax.checkpoints.formats import official

Grid = tuple[int, int]


def resize_positions(
  positions: Float[np.ndarray, '1 n d'],
  old_grid: Grid,
  new_grid: Grid,
  class_slot: bool,
) -> Float[np.ndarray, '1 n2 d']:
  """Interpolates position embeddings from one grid of patches to another.

  Section 3.2: bilinear over rows and columns, in float32. The corners of the
  grids fall together, as in the official code.

  Args:
    positions: embeddings, row by row.
    old_grid: rows and columns that they are for.
    new_grid: rows and columns to make them for.
    class_slot: whether the first one is a class token's, and stays as it is.

  Raises:
    ValueError: if the number of embeddings is not that of the old grid.
  """
  slots = int(class_slot)
  if positions.shape[1] != slots + old_grid[0] * old_grid[1]:
    raise ValueError(
      f'{positions.shape[1]} position embeddings are not those of a grid of'
      f' {old_grid[0]}x{old_grid[1]} patches{" and a class token" * slots}.'
    )
  positions = np.asarray(positions)
  grid = positions[0, slots:].reshape(*old_grid, -1).astype(np.float32)
  for axis in (0, 1):
    grid = resize_axis(grid, axis, new_grid[axis])
  resized = grid.astype(positions.dtype).reshape(1, -1, grid.shape[-1])
  return np.concatenate([positions[:, :slots], resized], axis=1)


def resize_axis(
  table: Float[np.ndarray, '...'], axis: int, new_size: int
) -> Float[np.ndarray, '...']:
  """Interpolates linearly along an axis, in float32; ends fall together."""
  old_size = table.shape[axis]
  if old_size == new_size:
    return table
  place = np.linspace(0, old_size - 1, new_size)
  before = np.floor(place).astype(int)
  after = np.minimum(before + 1, old_size - 1)
  shape = [-1 if i == axis else 1 for i in range(table.ndim)]
  share = (place - before).astype(np.float32).reshape(shape)
  wide = table.astype(np.float32)
  lower, upper = wide.take(before, axis), wide.take(after, axis)
  return (lower * (1 - share) + upper * share).astype(table.dtype)


def interpolate(
  start: dict[str, Any], end: dict[str, Any], alpha: float
) -> dict[str, Any]:
  """(1 - alpha) start + alpha end, parameter by parameter.

  At alpha 0 and 1 this is start or end, bit for bit; outside of them it
  extrapolates.

  Raises:
    ValueError: if the trees differ in names or shapes.
  """
  _check_alike(start, end)
  if alpha in (0, 1):
    return end if alpha else start
  return jax.tree.map(
    lambda a, b: _rounded((1 - alpha) * _wide(a) + alpha * _wide(b), a),
    start,
    end,
  )


def average(trees: Iterable[dict[str, Any]]) -> dict[str, Any]:
  """The mean of several trees, parameter by parameter.

  Sums are in float64, so that the mean of equal trees is equal to them, bit for
  bit. The trees may come one at a time, from a generator.

  Raises:
    ValueError: if there is none, or they differ in names or shapes.
  """
  first, total, number = None, None, 0
  for tree in trees:
    number += 1
    if first is None:
      first, total = tree, jax.tree.map(_wide, tree)
    else:
      _check_alike(first, tree)
      total = jax.tree.map(lambda t, x: t + _wide(x), total, tree)
  if first is None:
    raise ValueError('the mean of no checkpoints; give one at least.')
  return jax.tree.map(lambda t, x: _rounded(t / number, x), total, first)


def _wide(array):
  return np.asarray(array).astype(np.float64)


def _rounded(array, like):
  return array.astype(like.dtype)


def _check_alike(left, right):
  left, right = (
    {name: x.shape for name, x in official.flatten(tree).items()}
    for tree in (left, right)
  )
  for name in left | right:
    there, here = left.get(name), right.get(name)
    if there != here:
      raise ValueError(
        f'the checkpoints are of different models: parameter {name!r} has the'
        f' shape {there or "of nothing"} in one and {here or "of nothing"} in'
        ' another; give checkpoints of one model, with equal heads.'
      )
