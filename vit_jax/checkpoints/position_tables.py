"""Position embeddings in checkpoints: their kinds, and resizing (section 3.2).

Parameters have the names that `models.positions` gives them:

- `pos_embedding`, (1, n, d), kind '1d': one embedding per token.
- `pos_embedding_rows` and `pos_embedding_columns`, (rows or columns, d / 2),
  kind '2d'.
- `pos_embedding_offsets`, (2n - 1, s), kind 'relative': one entry per offset
  between two tokens in raster order or, in the `rows` and `columns` of axial
  attention, between two tokens of a row or column.
"""

from collections.abc import Iterable, Mapping
import math
import re
from typing import Any

import flax.linen as nn
from jaxtyping import Float
import numpy as np

_ROWS, _COLUMNS = 'pos_embedding_rows', 'pos_embedding_columns'
_OFFSETS = 'pos_embedding_offsets'
_KINDS = {
  'pos_embedding': '1d',
  _ROWS: '2d',
  _COLUMNS: '2d',
  _OFFSETS: 'relative',
}
_PLACES = {
  'Transformer/posembed_input': 'stem',
  'Transformer/encoderblock_0/posembed': 'every_layer',
  'Transformer/posembed_shared': 'every_layer_shared',
}
_DEFAULTS = {'positions': '1d', 'positions_at': 'stem'}
_ONE_AXIS = re.compile(r'(.*/)?(rows|columns)/.*')

Grid = tuple[int, int]  # Rows and columns of patches.


def options(names: Iterable[str]) -> dict[str, str]:
  """Derives arguments of `models.create` from the names of weights.

  Returns:
    `positions` and `positions_at`, each only if it differs from the default.
  """
  arguments = {'positions': 'none'}
  for name in names:
    layer, _, leaf = name.rpartition('/')
    if leaf in _KINDS and layer.startswith('Transformer/'):
      arguments['positions'] = _KINDS[leaf]
      if layer in _PLACES:
        arguments['positions_at'] = _PLACES[layer]
  return {k: v for k, v in arguments.items() if v != _DEFAULTS[k]}


def grid(weights: Mapping[str, np.ndarray]) -> Grid | None:
  """Returns the grid of patches that the position embeddings are for.

  If the weights, arrays by name, only determine the number of patches, the grid
  is assumed to be square. Returns None if the number is unknown or not square.
  """
  lengths = {name.rpartition('/')[2]: len(x) for name, x in weights.items()}
  if _ROWS in lengths and _COLUMNS in lengths:
    return lengths[_ROWS], lengths[_COLUMNS]
  for name, table in weights.items():
    if (number := _num_patches(name, table, weights)) is not None:
      side = math.isqrt(number)
      return (side, side) if side * side == number else None
  return None


def resize(
  weights: Mapping[str, np.ndarray],
  expected: Mapping[str, Any],
  model: nn.Module,
  image_size: int | tuple[int, int],
  old_image_size: int | tuple[int, int] | None,
) -> tuple[dict[str, np.ndarray], tuple[Grid, Grid] | None]:
  """Interpolates all position embeddings to the grid of another image size.

  Interpolation is linear along each axis (section 3.2), including offsets
  along a row or column. Offsets in raster order depend on the grid and cannot
  be resized.

  Args:
    weights: arrays by name.
    expected: arrays or shapes of the model, by name.
    model: from `models.create`.
    image_size: side, or height and width, in pixels of the model's images.
    old_image_size: image size of the weights. If None and the weights only
      determine the number of patches, the old grid is assumed to be square or,
      if the number is not a square, equal to the model's grid.

  Returns:
    The resized tables by name, and the old and the new grid if they differ.

  Raises:
    ValueError: if the old grid is unknown or does not match a table, or if
      offsets in raster order would have to change.
  """
  resized, grids = {}, None
  for name, table in weights.items():
    leaf = name.rpartition('/')[2]
    if name not in expected or leaf not in _KINDS:
      continue
    number = _num_patches(name, table, weights)
    if number is None:
      if leaf in (_ROWS, _COLUMNS):
        grids = grid(weights), model.grid_shape(image_size)
      length = expected[name].shape[0]
      if length != len(table):
        if leaf == _OFFSETS and length == 1:
          table = table[len(table) // 2 :][:1]  # Keep only the offset 0.
        resized[name] = resize_axis(table, 0, length)
      continue
    class_slot = _has_class_token(weights, expected)
    grids = _grids(name, number, model, image_size, old_image_size)
    old, new = grids
    if leaf == 'pos_embedding':
      resized[name] = resize_grid(table, old, new, class_slot=class_slot)
    elif old != new:
      raise ValueError(
        f'parameter {name!r} holds offsets in raster order for a grid of'
        f' {old[0]}x{old[1]} patches, which do not apply to {new[0]}x{new[1]};'
        ' use images with the same grid, or a model with other positions.'
      )
  if grids is not None and grids[0] == grids[1]:
    return {}, None
  return resized, grids


def resize_grid(
  table: Float[np.ndarray, '1 n d'],
  old_grid: Grid,
  new_grid: Grid,
  class_slot: bool,
) -> Float[np.ndarray, '1 n2 d']:
  """Interpolates position embeddings from one grid of patches to another.

  Interpolation is bilinear, in float32, with aligned corners as in the official
  code. Embeddings are in raster order. With `class_slot`, the first is that of
  a class token, which is kept as is.

  Raises:
    ValueError: if the number of embeddings does not match the old grid.
  """
  slots = int(class_slot)
  if table.shape[1] != slots + old_grid[0] * old_grid[1]:
    raise ValueError(
      f'got {table.shape[1]} position embeddings, which do not match a grid of'
      f' {old_grid[0]}x{old_grid[1]} patches{" and a class token" * slots}.'
    )
  table = np.asarray(table)
  patches = table[0, slots:].reshape(*old_grid, -1).astype(np.float32)
  for axis in (0, 1):
    patches = resize_axis(patches, axis, new_grid[axis])
  resized = patches.astype(table.dtype).reshape(1, -1, patches.shape[-1])
  return np.concatenate([table[:, :slots], resized], axis=1)


def resize_axis(
  table: Float[np.ndarray, '...'], axis: int, new_size: int
) -> Float[np.ndarray, '...']:
  """Interpolates linearly along an axis in float32, with aligned ends."""
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


def _num_patches(name, table, weights):
  """Returns the number of patches of a table; None for tables of one axis."""
  leaf = name.rpartition('/')[2]
  if leaf == 'pos_embedding':
    return table.shape[1] - ('cls' in weights)
  if leaf == _OFFSETS and not _ONE_AXIS.match(name):
    return (len(table) + 1) // 2
  return None


def _has_class_token(weights, expected):
  if ('cls' in weights) != ('cls' in expected):
    pool = 'token' if 'cls' in weights else 'gap'
    owner = 'checkpoint' if 'cls' in weights else 'model'
    raise ValueError(
      f"only the {owner} has the parameter 'cls'; use a model with"
      f' pool={pool!r}.'
    )
  return 'cls' in weights


def _grids(name, number, model, image_size, old_image_size):
  """Returns the grid of `number` old positions, and the model's grid."""
  new = model.grid_shape(image_size)
  if old_image_size is not None:
    return model.grid_shape(old_image_size), new
  side = math.isqrt(number)
  if side * side == number:
    return (side, side), new
  if number == new[0] * new[1]:
    return new, new
  raise ValueError(
    f'parameter {name!r} is for {number} patches, which do not form a square;'
    ' pass old_image_size=(HEIGHT, WIDTH) of the checkpoint.'
  )
