"""Files of BiT (Big Transfer), with TensorFlow names; see `models.resnet`."""

from collections.abc import Iterable, Mapping
import re
from typing import Any

import numpy as np

from vit_jax.checkpoints.formats import official

_PREFIX = 'resnet/'
_LAYERS = {
  'root_block/standardized_conv2d': 'conv_root',
  'group_norm': 'gn_final',
  'head/conv2d': 'head',
}
_UNIT_LAYERS = {
  'a/proj/standardized_conv2d': 'conv_proj',
  **{f'{x}/standardized_conv2d': f'conv{i}' for i, x in enumerate('abc', 1)},
  **{f'{x}/group_norm': f'gn{i}' for i, x in enumerate('abc', 1)},
}
_LEAVES = {'kernel': 'kernel', 'gamma': 'scale', 'beta': 'bias', 'bias': 'bias'}


def matches(names: Iterable[str]) -> bool:
  """Returns whether arrays with these names come from BiT."""
  return any(name.startswith(_PREFIX) for name in names)


def read(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Returns the parameters under the names of `models.resnet`.

  Raises:
    ValueError: if a name does not belong to a BiT ResNet.
  """
  flat = {}
  for old_name in arrays:
    name = _rename(old_name)
    official.add(flat, name, arrays[old_name], old_name)
    if name == 'head/kernel' and flat[name].ndim == 4:
      # A 1x1 convolution in BiT.
      flat[name] = flat[name].reshape(flat[name].shape[-2:])
  return official.unflatten(flat)


def _rename(old_name):
  # Some files number layers of the same type, as in standardized_conv2d_12.
  path = re.sub(r'(conv2d|group_norm)_\d+\b', r'\1', old_name)
  layer, _, leaf = path.removeprefix(_PREFIX).rpartition('/')
  if unit := re.fullmatch(r'(block\d+)/unit(\d+)/(.+)', layer):
    inner = _UNIT_LAYERS.get(unit[3])
    layer = inner and f'{unit[1]}/unit{int(unit[2])}/{inner}'
  else:
    layer = _LAYERS.get(layer)
  if layer is None or leaf not in _LEAVES:
    raise ValueError(
      f'parameter {old_name!r} is not part of a BiT ResNet; expected names like'
      " 'resnet/block1/unit01/a/standardized_conv2d/kernel'."
    )
  return f'{layer}/{_LEAVES[leaf]}'
