"""Position embeddings among loaded weights: their kind, and other image sizes.

Names are those of `models.positions`, wherever in a model they stand:

- `pos_embedding`, (1, n, d): a place in the sequence each; "1d".
- `pos_embedding_rows`, `pos_embedding_columns`, (rows or columns, d / 2); "2d".
- `pos_embedding_offsets`, (2n - 1, s): offsets in the raster, or, below `rows`
  and `columns` of axial attention, in a row or column; "relative".
"""

from collections.abc import Iterable, Mapping
import math
import re
from typing import Any

import flax.linen as nn
import numpy as np

from vit_jax.checkpoints import surgery

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
_ONE_AXIS = re.compile(r'(.*/)?(rows|columns)/.*')

Grids = tuple[surgery.Grid, surgery.Grid]


def describe(names: Iterable[str]) -> dict[str, str]:
  """The keywords of `models.create` that a transformer's weights tell.

  Returns:
    `positions` and `positions_at` where they are not the usual ones.
  """
  found = {'positions': 'none'}
  for name in names:
    layer, _, leaf = name.rpartition('/')
    if leaf in _KINDS and layer.startswith('Transformer/'):
      found['positions'] = _KINDS[leaf]
      if layer in _PLACES:
        found['positions_at'] = _PLACES[layer]
  usual = {'positions': '1d', 'positions_at': 'stem'}
  return {key: kind for key, kind in found.items() if kind != usual[key]}


def grid(given: Mapping[str, np.ndarray]) -> surgery.Grid | None:
  """Rows and columns of the patches that positions are for.

  A number of patches is taken for that of a square grid. None where it is no
  square's, and where no table tells.

  Args:
    given: weights by name.
  """
  lengths = {name.rpartition('/')[2]: len(x) for name, x in given.items()}
  if _ROWS in lengths and _COLUMNS in lengths:
    return lengths[_ROWS], lengths[_COLUMNS]
  for name, table in given.items():
    if (number := _number_of_patches(name, table, given)) is not None:
      side = math.isqrt(number)
      return (side, side) if side * side == number else None
  return None


def resize(
  given: Mapping[str, np.ndarray],
  wanted: Mapping[str, Any],
  model: nn.Module,
  image_size: int | tuple[int, int],
  old_image_size: int | tuple[int, int] | None,
) -> tuple[dict[str, np.ndarray], Grids | None]:
  """Interpolates position embeddings for another grid of patches.

  Linearly along each axis (section 3.2), also where offsets are along one.
  Offsets in a raster stand for other ways in another, and have to stay.

  Args:
    given: weights by name.
    wanted: shapes of the model's by name.
    model: from `models.create`.
    image_size: side, or height and width, in pixels of the model's images.
    old_image_size: that of the weights. Without it, a number of patches is
      taken for that of a square grid, and of the model's own grid where it is
      no square's.

  Returns:
    The tables that change, by name; and the old and the new rows and columns of
    patches where they differ.

  Raises:
    ValueError: if the old grid is not known or not that of a table, or if
      offsets in a raster would have to change.
  """
  resized, grids = {}, None
  for name, table in given.items():
    leaf = name.rpartition('/')[2]
    if name not in wanted or leaf not in _KINDS:
      continue
    number = _number_of_patches(name, table, given)
    if number is None:
      if leaf in (_ROWS, _COLUMNS):
        grids = grid(given), model.grid_shape(image_size)
      length = wanted[name].shape[0]
      if length != len(table):
        if leaf == _OFFSETS and length == 1:
          table = table[len(table) // 2 :][:1]  # Of a place to itself.
        resized[name] = surgery.resize_axis(table, 0, length)
      continue
    class_slot = _has_class_token(given, wanted)
    grids = _grids(name, number, model, image_size, old_image_size)
    old, new = grids
    if leaf == 'pos_embedding':
      resized[name] = surgery.resize_positions(
        table, old, new, class_slot=class_slot
      )
    elif old != new:
      raise ValueError(
        f'parameter {name!r} is for offsets in a raster of {old[0]}x{old[1]}'
        f' patches, which mean nothing in one of {new[0]}x{new[1]}: use images'
        f' of as many patches, or a model with positions of another kind.'
      )
  if grids is not None and grids[0] == grids[1]:
    return {}, None
  return resized, grids


def _number_of_patches(name, table, given):
  """Patches of the grid that a table is for; None where it is for an axis."""
  leaf = name.rpartition('/')[2]
  if leaf == 'pos_embedding':
    return table.shape[1] - ('cls' in given)
  if leaf == _OFFSETS and not _ONE_AXIS.match(name):
    return (len(table) + 1) // 2
  return None


def _has_class_token(given, wanted):
  if ('cls' in given) != ('cls' in wanted):
    pool = 'token' if 'cls' in given else 'gap'
    raise ValueError(
      f"parameter 'cls' is only in one of them; use a model with pool={pool!r}."
    )
  return 'cls' in given


def _grids(name, number, model, image_size, old_image_size):
  """Returns the grids of a number of old positions and of the model's."""
  new = model.grid_shape(image_size)
  if old_image_size is not None:
    return model.grid_shape(old_image_size), new
  side = math.isqrt(number)
  if side * side == number:
    return (side, side), new
  if number == new[0] * new[1]:
    return new, new
  raise ValueError(
    f'parameter {name!r} is for {number} patches, which form no square; give'
    ' old_image_size=(HEIGHT, WIDTH) of the checkpoint.'
  )
