"""Names of the official files: the path to a parameter, joined by slashes.

As in `Transformer/encoderblock_0/LayerNorm_0/scale`. These are the names of
the modules here too; files of other kinds are brought to them.
"""

from collections.abc import Mapping
import re
from typing import Any

from flax import traverse_util
import numpy as np

POSITIONS = 'Transformer/posembed_input/pos_embedding'

# The files published with the paper number the parts of a block across
# classes, as flax did before Linen.
_LINEN_NAMES = {
  'MultiHeadDotProductAttention_1': 'MultiHeadDotProductAttention_0',
  'LayerNorm_2': 'LayerNorm_1',
  'MlpBlock_3': 'MlpBlock_0',
}
_GROUP_NORM = re.compile(r'(.*/)?gn(\d+|_root|_proj)/(scale|bias)')


def read(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Returns the tree of parameters that a file's flat names stand for.

  Parts of blocks come back under Linen's names, and old GroupNorm parameters
  of shape (1, 1, 1, c) as (c,).

  Raises:
    ValueError: if two names stand for one parameter.
  """
  flat = {}
  for old_name in arrays:
    name = '/'.join(_LINEN_NAMES.get(p, p) for p in old_name.split('/'))
    if name in flat:
      raise ValueError(
        f'parameter {name!r} is there twice, once as {old_name!r}; expected the'
        ' names of one version of flax.'
      )
    value = arrays[old_name]
    if _GROUP_NORM.fullmatch(name):
      value = value.reshape(-1)
    flat[name] = value
  return unflatten(flat)


def flatten(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Joins the names of a tree by slashes; the arrays come to the host."""
  flat = traverse_util.flatten_dict(params, sep='/')
  return {name: np.asarray(value) for name, value in flat.items()}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `flatten`."""
  return traverse_util.unflatten_dict(dict(flat), sep='/')


def check_blocks(params: Mapping[str, Any]) -> None:
  """Checks that the encoder's blocks are numbered from 0 and alike.

  Raises:
    ValueError: naming the first parameter that a block lacks.
  """
  parts_by_block = {}
  for name in traverse_util.flatten_dict(params, sep='/'):
    if match := re.fullmatch(r'Transformer/encoderblock_(\d+)/(.+)', name):
      parts_by_block.setdefault(int(match[1]), []).append(match[2])
  if not parts_by_block:
    return
  # A dict keeps the order of the file, so that errors name its first gap.
  parts = dict.fromkeys(p for ps in parts_by_block.values() for p in ps)
  for block in range(max(parts_by_block) + 1):
    for part in parts:
      if part not in parts_by_block.get(block, ()):
        raise ValueError(
          f"parameter 'Transformer/encoderblock_{block}/{part}' is missing,"
          ' which other blocks have; the file is incomplete: download or write'
          ' it again.'
        )
