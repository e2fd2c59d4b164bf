"""Names and layouts of the Vision Transformer in timm and in Hugging Face.

PyTorch puts outputs before inputs: dense kernels are (outputs, inputs) and
convolutions (outputs, inputs, height, width). Attention heads have no axis of
their own, and timm keeps query, key and value in one layer.
"""

from collections.abc import Mapping
import re
from typing import Any

import numpy as np

from vit_jax.checkpoints import official
from vit_jax.models import vit

_BLOCK = 'Transformer/encoderblock_{}'
_ATTENTION = f'{_BLOCK}/MultiHeadDotProductAttention_0'
_QUERY, _KEY, _VALUE = (f'{_ATTENTION}/{x}' for x in ('query', 'key', 'value'))

# The layers of a model and which layers here they hold.
_TIMM = {
  'cls_token': ('cls',),
  'pos_embed': (official.POSITIONS,),
  'patch_embed.proj': ('embedding',),
  'blocks.{}.norm1': (f'{_BLOCK}/LayerNorm_0',),
  'blocks.{}.attn.qkv': (_QUERY, _KEY, _VALUE),
  'blocks.{}.attn.proj': (f'{_ATTENTION}/out',),
  'blocks.{}.norm2': (f'{_BLOCK}/LayerNorm_1',),
  'blocks.{}.mlp.fc1': (f'{_BLOCK}/MlpBlock_0/Dense_0',),
  'blocks.{}.mlp.fc2': (f'{_BLOCK}/MlpBlock_0/Dense_1',),
  'norm': ('Transformer/encoder_norm',),
  'head': ('head',),
}
_HUGGINGFACE = {
  'vit.embeddings.cls_token': ('cls',),
  'vit.embeddings.position_embeddings': (official.POSITIONS,),
  'vit.embeddings.patch_embeddings.projection': ('embedding',),
  'vit.encoder.layer.{}.layernorm_before': (f'{_BLOCK}/LayerNorm_0',),
  'vit.encoder.layer.{}.attention.attention.query': (_QUERY,),
  'vit.encoder.layer.{}.attention.attention.key': (_KEY,),
  'vit.encoder.layer.{}.attention.attention.value': (_VALUE,),
  'vit.encoder.layer.{}.attention.output.dense': (f'{_ATTENTION}/out',),
  'vit.encoder.layer.{}.layernorm_after': (f'{_BLOCK}/LayerNorm_1',),
  'vit.encoder.layer.{}.intermediate.dense': (f'{_BLOCK}/MlpBlock_0/Dense_0',),
  'vit.encoder.layer.{}.output.dense': (f'{_BLOCK}/MlpBlock_0/Dense_1',),
  'vit.layernorm': ('Transformer/encoder_norm',),
  'classifier': ('head',),
}
DIALECTS = {'timm': _TIMM, 'huggingface': _HUGGINGFACE}

# Names of other versions of the libraries, and parts that classifiers lack.
_ALSO_READ = {
  'timm': {
    'blocks.{}.attn.q_proj': (_QUERY,),
    'blocks.{}.attn.k_proj': (_KEY,),
    'blocks.{}.attn.v_proj': (_VALUE,),
    'pre_logits.fc': ('pre_logits',),
  },
  'huggingface': {
    'vit.layers.{}.layernorm_before': (f'{_BLOCK}/LayerNorm_0',),
    'vit.layers.{}.attention.q_proj': (_QUERY,),
    'vit.layers.{}.attention.k_proj': (_KEY,),
    'vit.layers.{}.attention.v_proj': (_VALUE,),
    'vit.layers.{}.attention.o_proj': (f'{_ATTENTION}/out',),
    'vit.layers.{}.layernorm_after': (f'{_BLOCK}/LayerNorm_1',),
    'vit.layers.{}.mlp.fc1': (f'{_BLOCK}/MlpBlock_0/Dense_0',),
    'vit.layers.{}.mlp.fc2': (f'{_BLOCK}/MlpBlock_0/Dense_1',),
    'vit.pooler.dense': ('pre_logits',),
    'vit.embeddings.mask_token': ('mask_token',),
    'decoder.0': ('decoder',),
  },
}
_PATCHES = {
  'patch_embed.proj.weight': 'timm',
  'vit.embeddings.patch_embeddings.projection.weight': 'huggingface',
  'embeddings.patch_embeddings.projection.weight': 'huggingface',
}


def recognize(tensors: Mapping[str, np.ndarray]) -> tuple[str, int]:
  """Returns the dialect, a key of `DIALECTS`, and the width of a model.

  Raises:
    ValueError: if the tensors are of another model.
  """
  for name, dialect in _PATCHES.items():
    if name in tensors:
      return dialect, tensors[name].shape[0]
  raise ValueError(
    'not a Vision Transformer of timm or Hugging Face: none of its parameters'
    f' is {" or ".join(map(repr, _PATCHES))}.'
  )


def usual_heads(width: int) -> int:
  """Returns the attention heads of the model of a width.

  Raises:
    ValueError: if no model has it; the arrays do not tell the number.
  """
  for size in vit.SIZES.values():
    if size.width == width:
      return size.heads
  raise ValueError(
    'PyTorch weights do not tell the number of attention heads, and no known'
    f' model has a width of {width}; give heads=NUMBER.'
  )


def read(
  tensors: Mapping[str, np.ndarray], dialect: str, heads: int
) -> dict[str, Any]:
  """Returns the tree of parameters under official names.

  Raises:
    ValueError: if a name is unknown, or a layer is not divisible by heads.
  """
  known = DIALECTS[dialect] | _ALSO_READ[dialect]
  flat = {}
  for name, tensor in tensors.items():
    layer, leaf = re.fullmatch(r'(.+?)(?:\.(weight|bias))?', name).groups()
    index = re.search(r'\.(\d+)\.', layer)
    layer = re.sub(r'\.\d+\.', '.{}.', layer)
    ours = known.get(layer, known.get(f'vit.{layer}'))
    if ours is None:
      raise ValueError(
        f'parameter {name!r} has no counterpart in the Vision Transformer; the'
        ' file is of a variant that computes something else.'
      )
    for our_layer, part in zip(ours, np.split(tensor, len(ours)), strict=True):
      our_layer = our_layer.format(index and index[1])
      our_name = _join(our_layer, leaf)
      flat[our_name] = _from_pytorch(our_name, part, heads)
  return official.unflatten(flat)


def write(params: dict[str, Any], dialect: str) -> dict[str, np.ndarray]:
  """The arrays of a file, by PyTorch name.

  Raises:
    ValueError: if a parameter has no place in such a file.
  """
  flat = official.flatten(params)
  blocks = {name.split('/')[1] for name in flat if 'encoderblock_' in name}
  tensors = {}
  for layer, ours in DIALECTS[dialect].items():
    for block in range(len(blocks)) if '{}' in layer else (None,):
      for leaf in ('weight', 'bias', None):
        names = [_join(our_layer.format(block), leaf) for our_layer in ours]
        if all(name in flat for name in names):
          parts = [_to_pytorch(name, flat.pop(name)) for name in names]
          their_name = layer.format(block) + (f'.{leaf}' if leaf else '')
          tensors[their_name] = np.concatenate(parts)
  if flat:
    raise ValueError(
      f'the {dialect} format has no place for {", ".join(map(repr, flat))};'
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
      f'parameter {name!r} of shape {tensor.shape} cannot be shared by {heads}'
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
