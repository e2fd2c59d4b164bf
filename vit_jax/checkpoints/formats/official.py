"""Files of the official code: module paths joined by slashes.

For example, `Transformer/encoderblock_0/LayerNorm_0/scale`. The modules of this
project have the same names, and all other formats are converted to them.
"""

from collections.abc import Mapping
import re
from typing import Any

from etils import epath
from flax import traverse_util
import numpy as np

from vit_jax.checkpoints.formats import npz

POSITIONS = 'Transformer/posembed_input/pos_embedding'

# The files published with the paper predate Linen: the parts of a block share
# one counter.
_LINEN_NAMES = {
  'MultiHeadDotProductAttention_1': 'MultiHeadDotProductAttention_0',
  'LayerNorm_2': 'LayerNorm_1',
  'MlpBlock_3': 'MlpBlock_0',
}
_GROUP_NORM = re.compile(r'(.*/)?gn(\d+|_root|_proj)/(scale|bias)')


def read(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Returns the parameter tree of a file.

  Renames the parts of blocks as in Linen, and reshapes GroupNorm parameters
  from (1, 1, 1, c) to (c,).

  Raises:
    ValueError: if two arrays belong to one parameter.
  """
  flat = {}
  for old_name in arrays:
    name = '/'.join(_LINEN_NAMES.get(p, p) for p in old_name.split('/'))
    if name in flat:
      raise ValueError(
        f'parameter {name!r} occurs twice, once as {old_name!r}; expected the'
        ' names of one version of Flax.'
      )
    flat[name] = arrays[old_name]
    if _GROUP_NORM.fullmatch(name):
      flat[name] = flat[name].reshape(-1)
  return unflatten(flat)


def flatten(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Flattens a tree to NumPy arrays with slash-separated names."""
  flat = traverse_util.flatten_dict(params, sep='/')
  return {name: np.asarray(value) for name, value in flat.items()}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Inverts `flatten`."""
  return traverse_util.unflatten_dict(dict(flat), sep='/')


def write(params: dict[str, Any], path: epath.Path, **settings: Any) -> None:
  """Writes an .npz file; the format does not store settings."""
  del settings
  npz.write(flatten(params), path)


def check_blocks(params: Mapping[str, Any]) -> None:
  """Checks that encoder blocks are numbered from 0 and have equal parameters.

  Raises:
    ValueError: if a block lacks a parameter that another one has.
  """
  parts_by_block = {}
  for name in traverse_util.flatten_dict(params, sep='/'):
    if match := re.fullmatch(r'Transformer/encoderblock_(\d+)/(.+)', name):
      parts_by_block.setdefault(int(match[1]), []).append(match[2])
  if not parts_by_block:
    return
  # In the order of the file, so that the error names its first gap.
  parts = dict.fromkeys(p for ps in parts_by_block.values() for p in ps)
  for block in range(max(parts_by_block) + 1):
    for part in parts:
      if part not in parts_by_block.get(block, ()):
        raise ValueError(
          f"parameter 'Transformer/encoderblock_{block}/{part}' is missing, but"
          ' other blocks have it; the file is incomplete. Download or write it'
          ' again.'
        )
