"""Files of big_vision: Vision Transformers and two-tower (CLIP, LiT) models.

The names differ from the official ones in three ways: they have a prefix;
`pos_embedding` is at the top level and has no slot for the class token, since
it is added before the class token is prepended; and scanned layers form a
single `Transformer/encoderblock` whose arrays have a leading layer axis.
Without `pos_embedding`, positions are fixed ('sincos2d').
"""

from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath
import numpy as np

from vit_jax.checkpoints.formats import npz, official

# The first prefix present is used: that of the image tower, if there are two.
_PREFIXES = ('params/img/', 'opt/target/img/', 'img/', 'params/', 'opt/target/')
_POSITIONS = 'pos_embedding'
_SCANNED = 'Transformer/encoderblock/'
_MAX_DEPTH = 10_000
_PARTS = (
  'Transformer', 'MAPHead_0', 'cls', 'embedding', 'head', 'pre_logits',
)  # fmt: skip


def matches(names: Iterable[str]) -> bool:
  """Returns whether arrays with these names come from big_vision."""
  return any(
    name == _POSITIONS or name.startswith((*_PREFIXES, _SCANNED))
    for name in names
  )


def read(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Returns the image model's parameters under official names.

  Other arrays, such as optimizer state or a text tower, are not read. A class
  token gets a position embedding of zero.

  Raises:
    ValueError: if scanned parameters differ in the number of layers.
  """
  prefix = next(
    (p for p in _PREFIXES if any(name.startswith(p) for name in arrays)), ''
  )
  flat = {
    name.removeprefix(prefix): arrays[name]
    for name in arrays
    if name.startswith(prefix)
    and not name.removeprefix(prefix).startswith(official.OPTIMIZER_STATE)
  }
  if _POSITIONS in flat:
    positions = flat.pop(_POSITIONS)
    if 'cls' in flat:
      if positions.ndim != 3:
        raise ValueError(
          f'parameter {_POSITIONS!r} has the shape {positions.shape}; expected'
          ' (1, patches, width).'
        )
      slot = np.zeros_like(positions[:, :1])
      positions = np.concatenate([slot, positions], axis=1)
    flat[official.POSITIONS] = positions
  return official.read(_unscan(flat))


def to_arrays(params: dict[str, Any]) -> dict[str, np.ndarray]:
  """Returns the arrays of a file, by name, without scanned layers.

  The position embedding of the class token is added to the token itself, which
  leaves their sum unchanged.

  Raises:
    ValueError: if the format cannot hold a part of the model.
  """
  flat = official.flatten(params)
  for name in flat:
    if name.split('/')[0] not in _PARTS:
      raise ValueError(
        f'the big_vision format cannot store {name!r}; it holds'
        f' {", ".join(_PARTS)}. Use the official format.'
      )
  if official.POSITIONS in flat:
    positions = flat.pop(official.POSITIONS)
    if 'cls' in flat:
      flat['cls'] = flat['cls'] + positions[:, :1]
      positions = positions[:, 1:]
    flat[_POSITIONS] = positions
  return {f'params/{name}': value for name, value in flat.items()}


def write(params: dict[str, Any], path: epath.Path, **settings: Any) -> None:
  """Writes an .npz file; the format does not store settings."""
  del settings
  npz.write(to_arrays(params), path)


def _unscan(flat):
  unscanned = {}
  # An array without axes belongs to no layer.
  depths = {
    len(v) if v.ndim else 0
    for name, v in flat.items()
    if name.startswith(_SCANNED)
  }
  if len(depths) > 1:
    raise ValueError(
      f'the scanned parameters {_SCANNED}* disagree about the number of layers:'
      f' {", ".join(map(str, sorted(depths)))}; expected equal leading axes.'
    )
  if not all(0 < depth <= _MAX_DEPTH for depth in depths):
    raise ValueError(
      f'the scanned parameters {_SCANNED}* are for {max(depths):,} layers;'
      f' expected 1 to {_MAX_DEPTH:,}.'
    )
  for name, value in flat.items():
    if name.startswith(_SCANNED):
      part = name.removeprefix(_SCANNED)
      for i, layer in enumerate(value):
        new_name = f'Transformer/encoderblock_{i}/{part}'
        official.add(unscanned, new_name, layer, name)
    else:
      official.add(unscanned, name, value, name)
  return unscanned
