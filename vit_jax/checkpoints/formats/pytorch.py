"""Conversion between PyTorch's layouts and ours, for timm and Hugging Face.

PyTorch puts outputs before inputs: dense kernels are (outputs, inputs), and
convolution kernels (outputs, inputs, height, width). Attention heads have no
axis of their own, and a layer may fuse several of ours, such as query, key and
value in timm.
"""

from collections.abc import Mapping
import json
import re
from typing import Any

from etils import epath
import numpy as np

from vit_jax.checkpoints.formats import official
from vit_jax.models import vit

# PyTorch layers, with `{}` for the number of a block, and our layers in each.
Layers = Mapping[str, tuple[str, ...]]

CONFIG = 'config.json'
BLOCK = 'Transformer/encoderblock_{}'
ATTENTION = f'{BLOCK}/MultiHeadDotProductAttention_0'
QUERY, KEY, VALUE = (f'{ATTENTION}/{x}' for x in ('query', 'key', 'value'))


def usual_heads(width: int) -> int:
  """Returns the number of attention heads of the ViT variant with this width.

  Raises:
    ValueError: if there is no such variant.
  """
  for size in vit.SIZES.values():
    if size.width == width:
      return size.heads
  raise ValueError(
    'PyTorch weights do not determine the number of attention heads, and no'
    f' known model has a width of {width}; give heads=NUMBER.'
  )


def read_config(weights: epath.Path) -> dict[str, Any]:
  """Returns the config.json next to a weight file; empty without one."""
  path = weights.parent / CONFIG
  return json.loads(path.read_text()) if path.exists() else {}


def gelu(activation: str, known: Mapping[str, str]) -> str:
  """Returns our name of an activation; raises a ValueError if it is unknown."""
  if activation not in known:
    raise ValueError(
      f'{CONFIG} specifies the activation {activation!r}; the Vision'
      f' Transformer supports {", ".join(known)}.'
    )
  return known[activation]


def read(
  tensors: Mapping[str, np.ndarray], layers: Layers, heads: int
) -> dict[str, Any]:
  """Returns the tree of parameters under official names.

  Raises:
    ValueError: if a name is unknown, or a layer is not divisible by heads.
  """
  flat = {}
  for name, tensor in tensors.items():
    layer, leaf = re.fullmatch(r'(.+?)(?:\.(weight|bias))?', name).groups()
    block = re.search(r'\.(\d+)\.', layer)
    our_layers = layers.get(re.sub(r'\.\d+\.', '.{}.', layer))
    if our_layers is None:
      raise ValueError(
        f'parameter {name!r} has no counterpart in the Vision Transformer; the'
        ' file is of a variant that is not supported.'
      )
    parts = np.split(tensor, len(our_layers))
    for our_layer, part in zip(our_layers, parts, strict=True):
      our_name = _join(our_layer.format(block and block[1]), leaf)
      flat[our_name] = _from_pytorch(our_name, part, heads)
  return official.unflatten(flat)


def to_tensors(
  params: dict[str, Any], layers: Layers, format: str
) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by PyTorch name.

  Raises:
    ValueError: if `layers` has no place for a parameter.
  """
  flat = official.flatten(params)
  blocks = {name.split('/')[1] for name in flat if 'encoderblock_' in name}
  tensors = {}
  for layer, our_layers in layers.items():
    for block in range(len(blocks)) if '{}' in layer else (None,):
      for leaf in ('weight', 'bias', None):
        names = [_join(ours.format(block), leaf) for ours in our_layers]
        if all(name in flat for name in names):
          parts = [_to_pytorch(name, flat.pop(name)) for name in names]
          their_name = layer.format(block) + (f'.{leaf}' if leaf else '')
          tensors[their_name] = np.concatenate(parts)
  if flat:
    raise ValueError(
      f'the {format} format has no place for {", ".join(map(repr, flat))};'
      " leave parts out by name, such as drop=('pre_logits',), or export to"
      ' an .npz file.'
    )
  return tensors


def _join(layer, leaf):
  if leaf is None:
    return layer
  if leaf == 'weight':
    leaf = 'scale' if 'norm' in layer.split('/')[-1].lower() else 'kernel'
  return f'{layer}/{leaf}'


def _from_pytorch(name, tensor, heads):
  layer, leaf = ('', *name.split('/'))[-2:]
  try:
    if layer in ('query', 'key', 'value'):
      return tensor.T.reshape(*tensor.shape[1:], heads, -1)
    if layer == 'out' and leaf == 'kernel':
      return tensor.T.reshape(heads, -1, tensor.shape[0])
  except ValueError as error:
    raise ValueError(
      f'parameter {name!r} of shape {tensor.shape} cannot be split into {heads}'
      ' attention heads; give the right number as heads=NUMBER.'
    ) from error
  if leaf == 'kernel':
    axes = (2, 3, 1, 0) if tensor.ndim == 4 else None
    return tensor.transpose(axes)
  return tensor


def _to_pytorch(name, array):
  layer, leaf = ('', *name.split('/'))[-2:]
  if layer in ('query', 'key', 'value'):
    return array.reshape(*array.shape[:-2], -1).T
  if layer == 'out' and leaf == 'kernel':
    return array.reshape(-1, array.shape[-1]).T
  if leaf == 'kernel':
    axes = (3, 2, 0, 1) if array.ndim == 4 else None
    return array.transpose(axes)
  return array
