"""What is known of a loaded model besides its weights."""

from collections.abc import Mapping
import dataclasses
import re
from typing import Any

from flax import traverse_util

from vit_jax.checkpoints import position_tables


@dataclasses.dataclass(frozen=True)
class Description:
  """What is known of a loaded model besides its weights.

  Attributes:
    format: 'official', 'bit', 'big_vision', 'timm', 'huggingface', or 'run' for
      the checkpoints of a training run.
    sizes: what the shapes of the weights tell, under the keywords of
      `models.create`: depth, width, stage_depths and the like.
    num_classes: size of the head; 0 without a head.
    gelu: form of GELU, as for `models.create`.
    norm_eps: what LayerNorms add to the variance.
    class_names: in the order of the labels; None where no file tells them.
    image_size: height and width in pixels that the positions were made for;
      None where no file tells them.
    axial: whether the model attends along rows and columns.
    ignored: arrays of the file that are no parameters of an image model, such
      as those of an optimiser.
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
    """Keywords that make `models.create` build the model of these weights.

    They hold for any name of the same kind: ViT, hybrid or ResNet, with axial
    attention or not.
    """
    return {**self.sizes, 'gelu': self.gelu, 'norm_eps': self.norm_eps}


def sizes(params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the keywords of `models.create` that the shapes of weights tell."""
  shapes = _shapes(params)
  found = {}
  if 'Transformer/encoder_norm/scale' in shapes:
    found |= _transformer_sizes(shapes, axial=is_axial(params))
  if 'conv_root/kernel' in shapes:
    units = {}
    for name in shapes:
      if match := re.match(r'block(\d+)/unit(\d+)/', name):
        block, unit = int(match[1]), int(match[2])
        units[block] = max(units.get(block, 0), unit)
    found['stage_depths'] = tuple(units[block] for block in sorted(units))
    found['width_factor'] = shapes['conv_root/kernel'][-1] / 64
  return found


def is_axial(params: Mapping[str, Any]) -> bool:
  """Whether the weights are those of attention along rows and columns."""
  return any(re.search(r'/(rows|columns)/', name) for name in _shapes(params))


def num_classes(params: Mapping[str, Any]) -> int:
  """Returns the size of the head; 0 without a head."""
  return _shapes(params).get('head/bias', (0,))[0]


def _transformer_sizes(shapes, axial):
  # Of an axial block, half is like a block.
  block = 'Transformer/encoderblock_0' + '/rows' * axial
  blocks = {n.split('/')[1] for n in shapes if '/encoderblock_' in n}
  found = {
    'depth': len(blocks),
    'width': shapes['Transformer/encoder_norm/scale'][0],
    'pool': 'token' if 'cls' in shapes else 'gap',
    **position_tables.describe(shapes),
  }
  for key, name, axes in (
    ('mlp_dim', f'{block}/MlpBlock_0/Dense_0/kernel', 1),
    ('heads', f'{block}/MultiHeadDotProductAttention_0/query/kernel', 1),
    ('patch_size', 'embedding/kernel', slice(2)),
    ('representation_size', 'pre_logits/bias', 0),
  ):
    if name in shapes:
      found[key] = shapes[name][axes]
  return found


def _shapes(params):
  flat = traverse_util.flatten_dict(params, sep='/')
  return {name: value.shape for name, value in flat.items()}
