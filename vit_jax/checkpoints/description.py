"""Description of the model that a set of weights belongs to."""

from collections.abc import Mapping
import dataclasses
import re
from typing import Any

from flax import traverse_util

from vit_jax.checkpoints import position_tables


@dataclasses.dataclass(frozen=True)
class Description:
  """Everything that a checkpoint records about its model besides the weights.

  Attributes:
    format: key of `formats.FORMATS`, or 'run' for the checkpoints of a training
      run.
    sizes: arguments of `models.create` derived from the shapes of the weights:
      depth, width, stage_depths and so on.
    num_classes: output size of the head; 0 without a head.
    gelu: form of GELU, as in `models.create`.
    norm_eps: epsilon of the LayerNorms.
    class_names: names in the order of the labels, if recorded.
    image_size: height and width in pixels that the position embeddings are for,
      if recorded.
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
  if 'Transformer/encoder_norm/scale' in shapes:
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
    'width': shapes['Transformer/encoder_norm/scale'][0],
    'pool': 'token' if 'cls' in shapes else 'gap',
    **position_tables.options(shapes),
  }
  for key, name, axes in (
    ('mlp_dim', f'{block}/MlpBlock_0/Dense_0/kernel', 1),
    ('heads', f'{block}/MultiHeadDotProductAttention_0/query/kernel', 1),
    ('patch_size', 'embedding/kernel', slice(2)),
    ('representation_size', 'pre_logits/bias', 0),
  ):
    if name in shapes:
      arguments[key] = shapes[name][axes]
  return arguments


def _shapes(params):
  flat = traverse_util.flatten_dict(params, sep='/')
  return {name: value.shape for name, value in flat.items()}
