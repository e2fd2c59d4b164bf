"""Files of timm: a .safetensors file, and possibly a config.json next to it."""

from collections.abc import Collection, Mapping, Sequence
import json
from typing import Any

from etils import epath
import numpy as np

from vit_jax.checkpoints import description
from vit_jax.checkpoints.formats import official, pytorch, safetensors_file

_PATCHES = 'patch_embed.proj.weight'
_LAYERS = {
  'cls_token': ('cls',),
  'pos_embed': (official.POSITIONS,),
  'patch_embed.proj': ('embedding',),
  'blocks.{}.norm1': (f'{pytorch.BLOCK}/LayerNorm_0',),
  'blocks.{}.attn.qkv': (pytorch.QUERY, pytorch.KEY, pytorch.VALUE),
  'blocks.{}.attn.proj': (f'{pytorch.ATTENTION}/out',),
  'blocks.{}.norm2': (f'{pytorch.BLOCK}/LayerNorm_1',),
  'blocks.{}.mlp.fc1': (f'{pytorch.BLOCK}/MlpBlock_0/Dense_0',),
  'blocks.{}.mlp.fc2': (f'{pytorch.BLOCK}/MlpBlock_0/Dense_1',),
  'norm': ('Transformer/encoder_norm',),
  'head': ('head',),
}
# Layers that are only read: other versions of timm, and hidden layers of heads.
_READ_ONLY = {
  'blocks.{}.attn.q_proj': (pytorch.QUERY,),
  'blocks.{}.attn.k_proj': (pytorch.KEY,),
  'blocks.{}.attn.v_proj': (pytorch.VALUE,),
  'pre_logits.fc': ('pre_logits',),
}
_GELUS = {'gelu': 'erf', 'gelu_tanh': 'tanh'}
# The strings that `write` stores in a file, and how to parse them.
_METADATA = {
  'gelu': str,
  'norm_eps': float,
  'heads': int,
  'class_names': lambda names: tuple(json.loads(names)),
}


def matches(names: Collection[str]) -> bool:
  """Returns whether arrays with these names come from timm."""
  return _PATCHES in names


def read(
  tensors: Mapping[str, np.ndarray], heads: int | None = None
) -> dict[str, Any]:
  """Returns the parameters; `heads` defaults to the usual number."""
  heads = heads or pytorch.usual_heads(len(tensors[_PATCHES]))
  return pytorch.read(tensors, _LAYERS | _READ_ONLY, heads)


def to_tensors(params: dict[str, Any]) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by timm's names."""
  return pytorch.to_tensors(params, _LAYERS, 'timm')


def settings(path: epath.Path, metadata: Mapping[str, str]) -> dict[str, Any]:
  """Returns the settings recorded in and next to a file, or timm's defaults.

  Raises:
    ValueError: if the model has an activation other than GELU.
  """
  config = pytorch.read_config(path)
  arguments = config.get('model_args') or {}
  size = (config.get('pretrained_cfg') or {}).get('input_size')
  names = config.get('label_names')
  # The metadata of the file takes precedence over the config.json.
  recorded = {
    'gelu': pytorch.gelu(arguments.get('act_layer') or 'gelu', _GELUS),
    'norm_eps': 1e-6,
    'heads': arguments.get('num_heads'),
    'class_names': names and tuple(names),
    'image_size': size and tuple(size[1:]),
  } | {k: parse(metadata[k]) for k, parse in _METADATA.items() if k in metadata}
  return {key: value for key, value in recorded.items() if value is not None}


def write(
  params: dict[str, Any],
  path: epath.Path,
  *,
  gelu: str,
  norm_eps: float,
  class_names: Sequence[str] | None,
  image_size: int | tuple[int, int] | None,
) -> None:
  """Writes a .safetensors file with the settings in its metadata.

  Raises:
    ImportError: if the safetensors library is not installed.
    ValueError: if the format cannot store a parameter.
  """
  del image_size
  tensors = to_tensors(params)
  heads = description.sizes(params)['heads']
  metadata = {'gelu': gelu, 'norm_eps': repr(norm_eps), 'heads': str(heads)}
  if class_names is not None:
    metadata['class_names'] = json.dumps(list(class_names))
  safetensors_file.write(tensors, metadata, path)
