"""Image towers of SigLIP in the folders of Hugging Face's transformers.

SigLIP (Zhai et al. (2023), arXiv 2303.15343) trains an image and a text tower.
The former is a Vision Transformer without a class token, with attention pooling
and without a head. SigLIP 2 with images of fixed size has the same files.
"""

from collections.abc import Collection, Mapping
from typing import Any

from etils import epath
import numpy as np

from vit_jax.checkpoints import description
from vit_jax.checkpoints.formats import huggingface, official, pytorch

_PATCHES = 'embeddings.patch_embedding.weight'
_MLP = f'{pytorch.BLOCK}/MlpBlock_0'
_MAP = 'MAPHead_0'
_MAP_ATTENTION = f'{_MAP}/MultiHeadDotProductAttention_0'
_LAYERS = {
  'embeddings.patch_embedding': ('embedding',),
  'embeddings.position_embedding': ('positions',),  # Until they are renamed.
  'encoder.layers.{}.layer_norm1': (f'{pytorch.BLOCK}/LayerNorm_0',),
  'encoder.layers.{}.self_attn.q_proj': (pytorch.QUERY,),
  'encoder.layers.{}.self_attn.k_proj': (pytorch.KEY,),
  'encoder.layers.{}.self_attn.v_proj': (pytorch.VALUE,),
  'encoder.layers.{}.self_attn.out_proj': (f'{pytorch.ATTENTION}/out',),
  'encoder.layers.{}.layer_norm2': (f'{pytorch.BLOCK}/LayerNorm_1',),
  'encoder.layers.{}.mlp.fc1': (f'{_MLP}/Dense_0',),
  'encoder.layers.{}.mlp.fc2': (f'{_MLP}/Dense_1',),
  'post_layernorm': ('Transformer/encoder_norm',),
  'head.probe': (f'{_MAP}/probe',),
  'head.attention.out_proj': (f'{_MAP_ATTENTION}/out',),
  'head.layernorm': (f'{_MAP}/LayerNorm_0',),
  'head.mlp.fc1': (f'{_MAP}/MlpBlock_0/Dense_0',),
  'head.mlp.fc2': (f'{_MAP}/MlpBlock_0/Dense_1',),
} | {
  f'head.attention.in_proj_{theirs}': tuple(
    f'{_MAP_ATTENTION}/{layer}/{ours}' for layer in ('query', 'key', 'value')
  )
  for theirs, ours in (('weight', 'kernel'), ('bias', 'bias'))
}
_PREFIXES = ('', 'vision_model.')
# The text tower, what both towers share, and constants.
_UNUSED = r'text_model\.|logit_(scale|bias)$|.*position_ids$'


def matches(names: Collection[str]) -> bool:
  """Returns whether arrays with these names are those of a SigLIP."""
  return any(prefix + _PATCHES in names for prefix in _PREFIXES)


def read(
  tensors: Mapping[str, np.ndarray], heads: int | None = None, settings=None
) -> dict[str, Any]:
  """Returns the image tower; `heads` defaults to the usual number.

  Raises:
    ValueError: if a parameter is not supported.
  """
  del settings
  layers = {p + name: ours for p in _PREFIXES for name, ours in _LAYERS.items()}
  flat = official.flatten(pytorch.read(tensors, layers, heads, _UNUSED))
  if (positions := flat.pop('positions/kernel', None)) is not None:  # (d, n)
    flat[official.POSITIONS] = positions.T[None]
  return official.unflatten(flat)


def settings(
  path: epath.Path, metadata: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
  """Returns the settings recorded next to a file, and SigLIP's defaults.

  Raises:
    ValueError: if a setting is not supported.
  """
  defaults = {description.ASSUMED: {'gelu': 'tanh', 'norm_eps': 1e-6}}
  return huggingface.settings(path, metadata) | defaults
