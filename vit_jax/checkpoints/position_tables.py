"""Position embeddings in checkpoints: their kinds, and resizing (section 3.2).

Parameters have the names that `models.positions` gives them:

- `pos_embedding`, (1, n, d), kind '1d': one embedding per patch, after one for
  the class token if there is one.
- `pos_embedding_rows` and `pos_embedding_columns`, (rows or columns, d / 2),
  kind '2d'.
- `pos_embedding_offsets`, (2n - 1, s), kind 'relative': one entry per offset
  between two tokens in raster order or, in the `rows` and `columns` of axial
  attention, between two tokens of a row or column.
"""

from collections.abc import Callable, Iterable, Mapping
import functools
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
DEFAULTS = {'positions': '1d', 'positions_at': 'stem'}
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
  return {k: v for k, v in arguments.items() if v != DEFAULTS[k]}


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
  method: str = 'bilinear',
) -> tuple[dict[str, np.ndarray], tuple[Grid, Grid] | None]:
  """Interpolates all position embeddings to the grid of another image size.

  Interpolation is along each axis (section 3.2), including offsets along a row
  or column. Offsets in raster order depend on the grid and cannot be resized.

  Args:
    weights: arrays by name.
    expected: arrays or shapes of the model, by name.
    model: from `models.create`.
    image_size: side, or height and width, in pixels of the model's images.
    old_image_size: image size of the weights. If None and the weights only
      determine the number of patches, the old grid is assumed to be square or,
      if the number is not a square, equal to the model's grid.
    method: a key of `METHODS`.

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
        resized[name] = METHODS[method](table, 0, length)
      continue
    class_slot = _has_class_token(weights, expected)
    grids = _grids(name, number, model, image_size, old_image_size)
    old, new = grids
    if leaf == 'pos_embedding':
      resized[name] = resize_grid(table, old, new, class_slot, method)
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
  method: str = 'bilinear',
) -> Float[np.ndarray, '1 n2 d']:
  """Interpolates position embeddings from one grid of patches to another.

  Interpolation is in float32, by a key of `METHODS`. Embeddings are in raster
  order. With `class_slot`, the first is that of a class token, which is kept as
  is.

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
    patches = METHODS[method](patches, axis, new_grid[axis])
  resized = patches.astype(table.dtype).reshape(1, -1, patches.shape[-1])
  return np.concatenate([table[:, :slots], resized], axis=1)


def linear(
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


def cubic(
  table: Float[np.ndarray, '...'],
  axis: int,
  new_size: int,
  *,
  antialias: bool = False,
) -> Float[np.ndarray, '...']:
  """Interpolates by cubic convolution along an axis in float32.

  Same as PyTorch's `interpolate` with mode='bicubic' and align_corners=False.
  The kernel is that of Keys (1981), with a = -0.75 or, if antialiased, -0.5.

  Args:
    table: values at the centers of equal intervals.
    axis: axis to resize.
    new_size: new number of intervals.
    antialias: whether to widen the kernel if the number decreases; beyond an
      end, the kernel is then cut off and not applied to the outermost value.
  """
  old_size = table.shape[axis]
  if old_size == new_size:
    return table
  scale = old_size / new_size
  center = (np.arange(new_size)[:, None] + 0.5) * scale - 0.5
  if antialias:
    offsets = (np.arange(old_size) - center) / max(scale, 1)
    weights = _cubic_kernel(offsets, -0.5)
    weights /= weights.sum(axis=1, keepdims=True)
  else:
    place = np.floor(center).astype(int) + np.arange(-1, 3)
    weights = np.zeros((new_size, old_size))
    rows = np.arange(new_size)[:, None]
    inside = np.clip(place, 0, old_size - 1)
    np.add.at(weights, (rows, inside), _cubic_kernel(place - center, -0.75))
  wide = np.moveaxis(table.astype(np.float32), axis, 0)
  resized = np.tensordot(weights.astype(np.float32), wide, axes=1)
  return np.moveaxis(resized, 0, axis).astype(table.dtype)


def _cubic_kernel(x, a):
  x = np.abs(x)
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = a * (((x - 5) * x + 8) * x - 4)
  return np.where(x <= 1, near, np.where(x < 2, far, 0))


# How a table is resized along an axis, given the table, the axis and its size.
METHODS: dict[str, Callable[..., Float[np.ndarray, '...']]] = {
  'bilinear': linear,  # As in the official code.
  'bicubic': cubic,  # As in Hugging Face's transformers.
  # As in timm, and in models with registers of transformers.
  'bicubic_antialias': functools.partial(cubic, antialias=True),
}


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
    or_not = ' or class_token=True' if 'cls' in weights else ''
    raise ValueError(
      f"only the {owner} has the parameter 'cls'; use a model with"
      f' pool={pool!r}{or_not}.'
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
