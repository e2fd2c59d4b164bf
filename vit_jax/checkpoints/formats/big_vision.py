"""Names of big_vision's files, of vision transformers and two-tower models.

They differ from the official ones by a prefix; by `pos_embedding` at the top,
which is added before the class token is put in front and so has no slot for
it; and, where layers were scanned, by one `Transformer/encoderblock` whose
arrays have a leading axis of layers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoints.formats import official

# Of two towers, the one for images is read. The first one present holds.
_PREFIXES = ('params/img/', 'opt/target/img/', 'img/', 'params/', 'opt/target/')
_POSITIONS = 'pos_embedding'
_SCANNED = 'Transformer/encoderblock/'
_PARTS = ('Transformer', 'cls', 'embedding', 'head', 'pre_logits')


def matches(names: Iterable[str]) -> bool:
  """Whether a file with these names is one of big_vision's."""
  return any(
    name == _POSITIONS or name.startswith((*_PREFIXES, _SCANNED))
    for name in names
  )


def read(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Returns the image model's parameters under official names.

  Other arrays, as those of an optimiser or a text tower, are not read. A class
  token gets a position embedding of zero.

  Raises:
    ValueError: if scanned layers differ in number between parameters.
  """
  prefix = next(
    (p for p in _PREFIXES if any(name.startswith(p) for name in arrays)), ''
  )
  flat = {
    name.removeprefix(prefix): arrays[name]
    for name in arrays
    if name.startswith(prefix)
  }
  if _POSITIONS in flat:
    positions = flat.pop(_POSITIONS)
    if 'cls' in flat:
      slot = np.zeros_like(positions[:, :1])
      positions = np.concatenate([slot, positions], axis=1)
    flat[official.POSITIONS] = positions
  return official.read(_unscan(flat))


def write(params: dict[str, Any]) -> dict[str, np.ndarray]:
  """The arrays of a file, by name; layers are not scanned.

  The class token's position embedding is added to the token itself, which
  leaves the sum as it was.

  Raises:
    ValueError: if parts of the model have no place in such a file.
  """
  flat = official.flatten(params)
  for name in flat:
    if name.split('/')[0] not in _PARTS:
      raise ValueError(
        f'the big_vision format has no place for {name!r}; it holds'
        f' {", ".join(_PARTS)}. Use the official format.'
      )
  if official.POSITIONS in flat:
    positions = flat.pop(official.POSITIONS)
    if 'cls' in flat:
      flat['cls'] = flat['cls'] + positions[:, :1]
      positions = positions[:, 1:]
    flat[_POSITIONS] = positions
  return {f'params/{name}': value for name, value in flat.items()}


def _unscan(flat):
  unscanned = {}
  depths = {len(v) for name, v in flat.items() if name.startswith(_SCANNED)}
  if len(depths) > 1:
    raise ValueError(
      f'the scanned parameters {_SCANNED}* disagree about the number of layers:'
      f' {", ".join(map(str, sorted(depths)))}; expected one leading length.'
    )
  for name, value in flat.items():
    if name.startswith(_SCANNED):
      for i, layer in enumerate(value):
        part = name.removeprefix(_SCANNED)
        unscanned[f'Transformer/encoderblock_{i}/{part}'] = layer
    else:
      unscanned[name] = value
  return unscanned
