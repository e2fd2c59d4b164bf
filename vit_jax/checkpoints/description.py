"""Description of the model that a set of weights belongs to."""

from collections.abc import Mapping
import dataclasses
import re
import textwrap
from typing import Any

from flax import traverse_util

from vit_jax.checkpoints import position_tables
from vit_jax.models import layers, pooling

# Source of settings that no file records.
ASSUMED = 'assumed'

# The last norm of a transformer, in the encoder or after pooling.
_NORMS = {'Transformer/encoder_norm/scale', 'fc_norm/scale'}


def check_size(name: str, size: Any) -> tuple[int, int] | None:
  """Returns a size in pixels as (height, width).

  Args:
    name: name of the setting, for messages.
    size: one number or two; None if it is not recorded.

  Raises:
    ValueError: if the size is anything else, or not positive.
  """
  if size is None:
    return None
  pair = tuple(size) if isinstance(size, (list, tuple)) else (size,) * 2
  if len(pair) != 2 or not all(type(x) is int and 0 < x < 2**31 for x in pair):
    raise ValueError(
      f'{name}={size!r}; expected a positive number of pixels, or height and'
      ' width.'
    )
  return pair


def check_setting(name: str, value: Any, source: str) -> None:
  """Checks a recorded setting.

  Args:
    name: a field of `Description`, 'heads' or 'pool'.
    value: its value; None if it is not recorded.
    source: where it is from, for messages.

  Raises:
    ValueError: if the value is invalid.
  """
  if value is None or name not in _VALID:
    return
  is_valid, expected = _VALID[name]
  if not is_valid(value):
    text = textwrap.shorten(repr(value), 80, placeholder='...')
    raise ValueError(f'{source} specifies {name}={text}; expected {expected}.')


# A test of a setting, and what it expects.
_VALID = {
  'gelu': (
    lambda x: isinstance(x, str) and x in layers.GELUS,
    f'one of {", ".join(layers.GELUS)}',
  ),
  'norm_eps': (
    lambda x: isinstance(x, (int, float)) and 0 <= x < 1,
    'a number from 0 to below 1',
  ),
  'heads': (lambda x: type(x) is int and x > 0, 'a positive number'),
  'loss': (lambda x: isinstance(x, str), 'the name of a loss'),
  'class_names': (
    lambda x: all(isinstance(name, str) for name in x),
    'a list of names',
  ),
}


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Preprocessing of images for evaluation and prediction.

  Attributes:
    crop: key of `data.preprocess.EVAL_CROPS`.
    interpolation: key of `data.preprocess.INTERPOLATIONS`.
    image_size: height and width in pixels of the result; None for the size of
      the position embeddings.
    precrop_size: height and width in pixels before a center crop; None for the
      default, 7/6 of the image size.
    trim_px: width in pixels of a border that is removed first.
  """

  crop: str = 'resize'
  interpolation: str = 'bilinear'
  image_size: tuple[int, int] | None = None
  precrop_size: tuple[int, int] | None = None
  trim_px: int = 0

  def __post_init__(self):
    """Converts sizes read from JSON, which are lists, to tuples.

    Raises:
      ValueError: if a field is not of its type.
    """
    for name in ('image_size', 'precrop_size'):
      size = check_size(name, getattr(self, name))
      object.__setattr__(self, name, size)
    for name, is_valid in {
      'crop': isinstance(self.crop, str),
      'interpolation': isinstance(self.interpolation, str),
      'trim_px': type(self.trim_px) is int and self.trim_px >= 0,
    }.items():
      if not is_valid:
        raise ValueError(
          f'{name}={getattr(self, name)!r} is not valid for an evaluation.'
        )

  def __str__(self) -> str:
    """Returns a short text for logs."""
    parts = [self.crop]
    if self.precrop_size:
      parts.append('from {}x{}'.format(*self.precrop_size))
    if self.image_size:
      parts.append('to {}x{}'.format(*self.image_size))
    if self.trim_px:
      parts.append(f'after trimming {self.trim_px} px')
    return f'{" ".join(parts)} ({self.interpolation})'


@dataclasses.dataclass(frozen=True)
class Description:
  """Everything that a checkpoint records about its model besides the weights.

  Attributes:
    format: key of `formats.FORMATS`, or 'run' for the checkpoints of a training
      run.
    sizes: arguments of `models.create`: depth, width, stage_depths and so on.
      The shapes of the weights determine all except those in `add_recorded`.
    num_classes: output size of the head; 0 without a head.
    gelu: form of GELU, as in `models.create`.
    norm_eps: epsilon of the LayerNorms.
    class_names: names in the order of the labels, if recorded.
    image_size: height and width in pixels that the position embeddings are for,
      if recorded.
    evaluation: preprocessing of evaluation images, if recorded.
    loss: key of `steps.LOSSES`, which determines probabilities.
    multi_label: whether an image may have any number of labels, if recorded. A
      sigmoid loss does not imply it.
    axial: whether the model uses axial attention.
    ignored: names of arrays in the file that do not belong to an image model,
      such as optimizer state.
  """

  format: str
  sizes: Mapping[str, Any]
  num_classes: int
  gelu: str = 'tanh'
  norm_eps: float = 1e-6
  class_names: tuple[str, ...] | None = None
  image_size: tuple[int, int] | None = None
  evaluation: Evaluation = Evaluation()
  loss: str = 'softmax'
  multi_label: bool = False
  axial: bool = False
  ignored: tuple[str, ...] = ()

  @property
  def overrides(self) -> dict[str, Any]:
    """Arguments with which `models.create` builds the model of these weights.

    They apply to any model name of the same family: ViT, hybrid or ResNet,
    each with or without axial attention.
    """
    return {**self.sizes, 'gelu': self.gelu, 'norm_eps': self.norm_eps}


def sizes(params: Mapping[str, Any]) -> dict[str, Any]:
  """Derives arguments of `models.create` from the shapes of weights."""
  shapes = _shapes(params)
  arguments = {}
  if _NORMS & shapes.keys():
    arguments |= _transformer_sizes(shapes, axial=is_axial(params))
  if 'conv_root/kernel' in shapes:
    units = {}
    for name in shapes:
      if match := re.match(r'block(\d+)/unit(\d+)/', name):
        block, unit = int(match[1]), int(match[2])
        units[block] = max(units.get(block, 0), unit)
    arguments['stage_depths'] = tuple(units[block] for block in sorted(units))
    arguments['width_factor'] = shapes['conv_root/kernel'][-1] / 64
  return arguments


# Options that shapes cannot show, by (name, value according to the shapes,
# recorded value): positions without parameters, and a mean in a model with a
# class token.
_POSSIBLE = {
  ('positions', 'none', 'sincos2d'): {'positions': 'sincos2d'},
  ('pool', 'token', 'gap'): {'pool': 'gap', 'class_token': True},
  ('pool', 'gap_norm', 'gap'): {},  # Libraries may call both a mean.
}


def add_recorded(
  sizes: Mapping[str, Any], name: str, value: str | None
) -> dict[str, Any]:
  """Adds a recorded option, which shapes may not determine, to the sizes.

  Args:
    sizes: from `sizes`.
    name: 'pool' or 'positions'.
    value: recorded value; None if there is none.

  Raises:
    ValueError: if the value contradicts the weights.
  """
  found = sizes.get(name, position_tables.DEFAULTS.get(name))
  if value in (None, found):
    return dict(sizes)
  if (name, found, value) not in _POSSIBLE:
    raise ValueError(
      f'specifies {name}={value!r}, but these are weights for {name}={found!r};'
      ' the combination is not supported.'
    )
  return {**sizes, **_POSSIBLE[name, found, value]}


def is_axial(params: Mapping[str, Any]) -> bool:
  """Returns whether the weights are those of a model with axial attention."""
  return any(re.search(r'/(rows|columns)/', name) for name in _shapes(params))


def num_classes(params: Mapping[str, Any]) -> int:
  """Returns the output size of the head; 0 without a head."""
  return _shapes(params).get('head/bias', (0,))[0]


def _transformer_sizes(shapes, axial):
  # An axial block consists of two halves, each with the layout of a block.
  block = 'Transformer/encoderblock_0' + '/rows' * axial
  blocks = {n.split('/')[1] for n in shapes if '/encoderblock_' in n}
  arguments = {
    'depth': len(blocks),
    'width': shapes[min(_NORMS & shapes.keys())][0],
    **_pooling(shapes),
    **position_tables.options(shapes),
  }
  for key, name, axes in (
    ('mlp_dim', f'{block}/MlpBlock_0/Dense_0/kernel', 1),
    ('heads', f'{block}/MultiHeadDotProductAttention_0/query/kernel', 1),
    ('patch_size', 'embedding/kernel', slice(2)),
    ('representation_size', 'pre_logits/bias', 0),
    ('registers', 'registers', 1),
  ):
    if name in shapes:
      arguments[key] = shapes[name][axes]
  return arguments


def _pooling(shapes):
  """Returns `pool`, and `class_token` if it is not the default."""
  parts = {name.split('/')[0] for name in shapes}
  for pool, kind in pooling.POOLS.items():
    if kind.part in parts:
      return {'pool': pool} | ({'class_token': True} if 'cls' in parts else {})
  return {'pool': 'token' if 'cls' in parts else 'gap'}


def _shapes(params):
  flat = traverse_util.flatten_dict(params, sep='/')
  return {name: value.shape for name, value in flat.items()}
