"""Checks that the parameters of a file belong to one complete model.

Names and shapes are known before the data of a file is read, so a file that
does not hold a model is rejected early, with the name of a parameter at fault.
"""

from collections.abc import Mapping
import re
from typing import Any

from flax import traverse_util

Shape = tuple[int, ...]

# Axes of parameters: a letter is the same length everywhere, `_` is any length.
# The first row that matches determines the width.
_AXES = {
  r'(Transformer/encoder_norm|fc_norm)/(scale|bias)': 'd',
  r'(.*/)?LayerNorm_\d+/(scale|bias)': 'd',
  r'(.*/)?LayerScale_\d+/scale': 'd',
  r'(.*/)?MultiHeadDotProductAttention_\d+/(query|key|value)/kernel': 'd h e',
  r'(.*/)?MultiHeadDotProductAttention_\d+/(query|key|value)/bias': 'h e',
  r'(.*/)?MultiHeadDotProductAttention_\d+/out/kernel': 'h e d',
  r'(.*/)?MultiHeadDotProductAttention_\d+/out/bias': 'd',
  r'(.*/)?MlpBlock_\d+/Dense_0/kernel': 'd m',
  r'(.*/)?MlpBlock_\d+/Dense_0/bias': 'm',
  r'(.*/)?MlpBlock_\d+/Dense_1/kernel': 'm d',
  r'(.*/)?MlpBlock_\d+/Dense_1/bias': 'd',
  r'(.*/)?pos_embedding': '1 _ d',
  r'(.*/)?pos_embedding_(rows|columns|offsets)': '_ _',
  r'cls|MAPHead_0/probe': '1 1 d',
  r'registers': '1 _ d',
  r'embedding/kernel': '_ _ _ d',
  r'embedding/bias': 'd',
  r'pre_logits/kernel': '_ r',
  r'pre_logits/bias': 'r',
  r'head/kernel': '_ k',
  r'head/bias': 'k',
  r'(.*/)?conv\w*/kernel': '_ _ _ _',
  r'(.*/)?gn\w*/(scale|bias)': '_',
}
_INCOMPLETE = 'the file is incomplete. Download or write it again.'


def check(params: Mapping[str, Any]) -> None:
  """Checks the names and shapes of parameters under official names.

  Args:
    params: a tree of arrays, or of anything else with a shape.

  Raises:
    ValueError: if a part of a model is missing, or two shapes contradict each
      other.
  """
  flat = traverse_util.flatten_dict(params, sep='/')
  shapes = {name: tuple(x.shape) for name, x in flat.items()}
  if not shapes:
    raise ValueError(f'there are no model parameters; {_INCOMPLETE}')
  _check_blocks(shapes)
  if any(name.startswith('Transformer/') for name in shapes):
    required = {'embedding/kernel'}
    norm = 'fc_norm' if 'fc_norm' in params else 'Transformer/encoder_norm'
    required |= {f'{norm}/scale', f'{norm}/bias'}
    for part in {'head', 'pre_logits'}.intersection(params):
      required |= {f'{part}/kernel', f'{part}/bias'}
    for name in sorted(required.difference(shapes)):
      raise ValueError(f'parameter {name!r} is missing; {_INCOMPLETE}')
  _check_units(shapes)
  _check_shapes(shapes)


def _check_blocks(shapes: Mapping[str, Shape]) -> None:
  """Checks that blocks are numbered from 0 and have the same parameters."""
  parts_by_block = {}
  for name in shapes:
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
          f' other blocks have it; {_INCOMPLETE}'
        )


def _check_units(shapes: Mapping[str, Shape]) -> None:
  """Checks that the blocks and units of a ResNet are numbered from 1."""
  units = {}
  for name in shapes:
    if match := re.match(r'block(\d+)/unit(\d+)/', name):
      units.setdefault(int(match[1]), set()).add(int(match[2]))
  for number, block in enumerate(sorted(units), 1):
    missing = f'block{number}' if block != number else ''
    for unit in range(1, len(units[block]) + 1):
      if not missing and unit not in units[block]:
        missing = f'block{block}/unit{unit}'
    if missing:
      raise ValueError(
        f'the parameters of {missing!r} are missing, but later blocks or units'
        f' exist; {_INCOMPLETE}'
      )


def _check_shapes(shapes: Mapping[str, Shape]) -> None:
  """Checks the number of axes, and that equal letters have equal lengths."""
  lengths, owners = {}, {}
  for pattern, axes in _AXES.items():
    axes = axes.split()
    for name, shape in shapes.items():
      if not re.fullmatch(pattern, name):
        continue
      if len(shape) != len(axes):
        raise ValueError(
          f'parameter {name!r} has the shape {shape}; expected {len(axes)}'
          f' {"axis" if len(axes) == 1 else "axes"}.'
        )
      for axis, length in zip(axes, shape, strict=True):
        if axis == '_':
          continue
        expected = 1 if axis == '1' else lengths.setdefault(axis, length)
        owner = owners.setdefault(axis, name)
        if length != expected:
          because = f', as in {owner!r} of shape {shapes[owner]}'
          raise ValueError(
            f'parameter {name!r} has the shape {shape}; expected an axis of'
            f' length {expected} instead of {length}{because * (axis != "1")}.'
          )
