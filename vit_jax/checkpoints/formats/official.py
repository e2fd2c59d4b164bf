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
# Arrays whose names start with these do not belong to a model.
OPTIMIZER_STATE = ('opt/', 'opt_state/', 'optimizer/')
_GROUP_NORM = re.compile(r'(.*/)?gn(\d+|_root|_proj)/(scale|bias)')


def read(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Returns the parameter tree of a file.

  Renames the parts of blocks as in Linen, and reshapes GroupNorm parameters
  from (1, 1, 1, c) to (c,).

  Optimizer state is not read.

  Raises:
    ValueError: if two arrays belong to one parameter.
  """
  flat = {}
  for old_name in arrays:
    if old_name.startswith(OPTIMIZER_STATE):
      continue
    name = '/'.join(_LINEN_NAMES.get(p, p) for p in old_name.split('/'))
    add(flat, name, arrays[old_name], old_name)
    if _GROUP_NORM.fullmatch(name):
      flat[name] = flat[name].reshape(-1)
  return unflatten(flat)


def add(
  flat: dict[str, np.ndarray], name: str, value: np.ndarray, old_name: str
) -> None:
  """Adds the parameter that a file calls `old_name`.

  Raises:
    ValueError: if there already is a parameter with this name.
  """
  if name in flat:
    raise ValueError(
      f'parameter {name!r} occurs twice, once as {old_name!r}; expected the'
      ' names of one version of the library that wrote the file.'
    )
  flat[name] = value


def flatten(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Flattens a tree to NumPy arrays with slash-separated names."""
  flat = traverse_util.flatten_dict(params, sep='/')
  return {name: np.asarray(value) for name, value in flat.items()}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Inverts `flatten`.

  Raises:
    ValueError: if a name is that of an array and of a part of the model.
  """
  for name in flat:
    part = name
    while part := part.rpartition('/')[0]:
      if part in flat:
        raise ValueError(
          f'{part!r} is an array, and {name!r} is below it; expected arrays or'
          ' a part of the model under one name.'
        )
  return traverse_util.unflatten_dict(dict(flat), sep='/')


def write(params: dict[str, Any], path: epath.Path, **settings: Any) -> None:
  """Writes an .npz file, which cannot store `settings`; they are ignored."""
  del settings
  npz.write(flatten(params), path)
