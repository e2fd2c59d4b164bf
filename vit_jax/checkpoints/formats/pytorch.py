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

from vit_jax.checkpoints import regular_file
from vit_jax.checkpoints.formats import official, stored
from vit_jax.models import variants

# PyTorch layers, with `{}` for the number of a block, and our layers in each.
Layers = Mapping[str, tuple[str, ...]]

# Unsupported parts of models, by a substring of their parameter names.
_UNSUPPORTED = {
  'attn_pool.': 'other kinds of attention pooling',
  'dist': 'a distillation token and two heads',
  'relative_position': 'this kind of relative positions',
  'rope': 'rotary positions',
  'norm_pre.': 'a norm before the encoder',
  'pre_layrnorm.': 'a norm before the encoder',
  '_norm.': 'norms in other places',
  'gate_proj': 'a gated MLP (SwiGLU)',
  'weights_in': 'a gated MLP (SwiGLU)',
  'fc1_g': 'a gated MLP (SwiGLU)',
}

CONFIG = 'config.json'
BLOCK = 'Transformer/encoderblock_{}'
ATTENTION = f'{BLOCK}/MultiHeadDotProductAttention_0'
QUERY, KEY, VALUE = (f'{ATTENTION}/{x}' for x in ('query', 'key', 'value'))
ATTENTION_SCALE, MLP_SCALE = (f'{BLOCK}/LayerScale_{i}/scale' for i in (0, 1))


def usual_heads(width: int) -> int:
  """Returns the number of attention heads of the ViT variant with this width.

  Raises:
    ValueError: if there is no such variant.
  """
  for size in variants.SIZES.values():
    if size.width == width:
      return size.heads
  raise ValueError(
    'PyTorch weights do not determine the number of attention heads, and no'
    f' known model has a width of {width}; pass heads=NUMBER.'
  )


def outputs(name: str, tensor: np.ndarray) -> int:
  """Returns the length of the first axis, that of the outputs of a layer.

  Raises:
    ValueError: if there is no axis.
  """
  if tensor.ndim == 0:
    raise ValueError(
      f'parameter {name!r} is a single number; expected one axis or more.'
    )
  return len(tensor)


def read_json(
  weights: epath.Path, name: str, types: Mapping[str, Any]
) -> dict[str, Any] | None:
  """Returns the content of a JSON file next to a weight file; None without one.

  Args:
    weights: path of the weight file.
    name: name of the JSON file.
    types: a type, or a tuple of types, by key. A key may be missing or null.

  Raises:
    ValueError: if the file does not hold a JSON object, or a value is not of
      its type.
  """
  path = weights.parent / name
  if not path.exists():
    return None
  try:
    content = json.loads(regular_file.read_text(path))
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{name} is not valid JSON ({error}).') from error
  if not isinstance(content, dict):
    raise ValueError(
      f'{name} holds a {type(content).__name__}; expected a JSON object.'
    )
  check_types(content, types, name)
  return content


def check_types(
  content: Mapping[str, Any], types: Mapping[str, Any], place: str
) -> None:
  """Checks values from JSON, see `read_json`; `place` is for messages."""
  for key, expected in types.items():
    value = content.get(key)
    if value is not None and not isinstance(value, expected):
      names = expected if isinstance(expected, tuple) else (expected,)
      raise ValueError(
        f'{place} specifies {key}={stored.shortened(repr(value))}; expected a'
        f' value of type {" or ".join(t.__name__ for t in names)}.'
      )


def interpolation(value: Any, known: Mapping[Any, str], setting: str) -> str:
  """Returns a key of `data.preprocess.INTERPOLATIONS`.

  Bilinear is taken to be that of the paper's code, without antialiasing, which
  the weights in such files were trained with. PyTorch libraries themselves
  antialias, as 'bilinear_antialias' does.

  Raises:
    ValueError: if the value is unknown.
  """
  if value not in known:
    raise ValueError(
      f'{setting}={value!r} is not supported; known: {_listed(known)}.'
    )
  return known[value]


def gelu(activation: str, known: Mapping[str, str]) -> str:
  """Returns our name of an activation; raises a ValueError if it is unknown."""
  if activation not in known:
    raise ValueError(
      f'{CONFIG} specifies the activation {activation!r}; the Vision'
      f' Transformer supports {_listed(known)}.'
    )
  return known[activation]


def _listed(names):
  return ', '.join(map(str, names))


def read(
  tensors: Mapping[str, np.ndarray],
  layers: Layers,
  heads: int | None,
  unused: str | None = None,
) -> dict[str, Any]:
  """Returns the tree of parameters under official names.

  Args:
    tensors: arrays by PyTorch name.
    layers: all layers that are supported.
    heads: number of attention heads; None for `usual_heads`.
    unused: regular expression for the names of arrays that do not belong to an
      image model, which are not read.

  Raises:
    ValueError: if a name or the usual number of heads is unknown, or a layer
      cannot be split.
  """
  names = {
    name: re.fullmatch(r'(.*?)(?:\.(weight|bias))?', name, re.DOTALL).groups()
    for name in tensors
    if unused is None or not re.match(unused, name)
  }
  found = {name: _find(layer, layers) for name, (layer, _) in names.items()}
  if unknown := [name for name, (ours, _) in found.items() if ours is None]:
    _reject(unknown)
  if heads is None:
    patches = next(
      n for n, (ours, _) in found.items() if ours == ('embedding',)
    )
    heads = usual_heads(outputs(patches, tensors[patches]))
  flat = {}
  for name, (_, leaf) in names.items():
    tensor, (our_layers, block) = tensors[name], found[name]
    if outputs(name, tensor) % len(our_layers):
      raise ValueError(
        f'parameter {name!r} of shape {tensor.shape} cannot be split into'
        f' {len(our_layers)} equal parts, one for each of our layers.'
      )
    parts = np.split(tensor, len(our_layers))
    for our_layer, part in zip(our_layers, parts, strict=True):
      our_name = _join(our_layer.format(block), leaf)
      part = _from_pytorch(our_name, part, heads)
      official.add(flat, our_name, part, name)
  return official.unflatten(flat)


def _find(layer, layers):
  """Returns our layers, None if unknown, and the number of the block."""
  block = re.search(r'\.(\d+)\.', layer)
  ours = layers.get(re.sub(r'\.\d+\.', '.{}.', layer))
  return ours, block and block[1]


def _reject(unknown):
  """Raises an error about unknown parameters, with the reason if known."""
  reasons = (
    (name, reason)
    for part, reason in _UNSUPPORTED.items()
    for name in unknown
    if part in name
  )
  name, reason = next(reasons, (unknown[0], 'such parts'))
  raise ValueError(
    f'parameter {name!r} has no counterpart in the Vision Transformer; models'
    f' with {reason} are not supported.'
  )


def to_tensors(
  params: dict[str, Any], layers: Layers, format: str
) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by PyTorch name.

  Raises:
    ValueError: if `layers` cannot store a parameter.
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
      f'the {format} format cannot store {", ".join(map(repr, flat))};'
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
      ' attention heads; pass the right number as heads=NUMBER.'
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
