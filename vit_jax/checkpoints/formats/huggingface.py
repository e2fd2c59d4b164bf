"""Folders of Hugging Face's transformers: weights and two JSON files.

`model.safetensors` holds a ViTForImageClassification or ViTModel, `config.json`
its sizes and settings, and `preprocessor_config.json` how images become pixel
values.
"""

from collections.abc import Collection, Mapping, Sequence
import json
import math
from typing import Any

from etils import epath
import numpy as np

from vit_jax.checkpoints import atomic, description
from vit_jax.checkpoints.formats import official, pytorch, safetensors_file
from vit_jax.models import positions

WEIGHTS = 'model.safetensors'
_PREPROCESSOR = 'preprocessor_config.json'

_MLP = f'{pytorch.BLOCK}/MlpBlock_0'
_PREFIX = 'vit.'  # A ViTModel, without a head, has the same names without it.
_PATCHES = 'embeddings.patch_embeddings.projection.weight'
_LAYERS = {
  'vit.embeddings.cls_token': ('cls',),
  'vit.embeddings.position_embeddings': (official.POSITIONS,),
  'vit.embeddings.patch_embeddings.projection': ('embedding',),
  'vit.encoder.layer.{}.layernorm_before': (f'{pytorch.BLOCK}/LayerNorm_0',),
  'vit.encoder.layer.{}.attention.attention.query': (pytorch.QUERY,),
  'vit.encoder.layer.{}.attention.attention.key': (pytorch.KEY,),
  'vit.encoder.layer.{}.attention.attention.value': (pytorch.VALUE,),
  'vit.encoder.layer.{}.attention.output.dense': (f'{pytorch.ATTENTION}/out',),
  'vit.encoder.layer.{}.layernorm_after': (f'{pytorch.BLOCK}/LayerNorm_1',),
  'vit.encoder.layer.{}.intermediate.dense': (f'{_MLP}/Dense_0',),
  'vit.encoder.layer.{}.output.dense': (f'{_MLP}/Dense_1',),
  'vit.layernorm': ('Transformer/encoder_norm',),
  'classifier': ('head',),
}
# Layers that are only read: other versions of transformers, and other heads.
_READ_ONLY = {
  'vit.layers.{}.layernorm_before': (f'{pytorch.BLOCK}/LayerNorm_0',),
  'vit.layers.{}.attention.q_proj': (pytorch.QUERY,),
  'vit.layers.{}.attention.k_proj': (pytorch.KEY,),
  'vit.layers.{}.attention.v_proj': (pytorch.VALUE,),
  'vit.layers.{}.attention.o_proj': (f'{pytorch.ATTENTION}/out',),
  'vit.layers.{}.layernorm_after': (f'{pytorch.BLOCK}/LayerNorm_1',),
  'vit.layers.{}.mlp.fc1': (f'{_MLP}/Dense_0',),
  'vit.layers.{}.mlp.fc2': (f'{_MLP}/Dense_1',),
  'vit.pooler.dense': ('pre_logits',),
  'vit.embeddings.mask_token': ('mask_token',),
  'decoder.0': ('decoder',),
}
# Names of activations in transformers; `write` uses the first of each form.
_GELUS = {
  'gelu': 'erf',
  'gelu_pytorch_tanh': 'tanh',
  'gelu_new': 'tanh',
  'gelu_fast': 'tanh',
  'gelu_python': 'erf',
}


def matches(names: Collection[str]) -> bool:
  """Returns whether arrays with these names come from transformers."""
  return _PREFIX + _PATCHES in names or _PATCHES in names


def read(
  tensors: Mapping[str, np.ndarray], heads: int | None = None
) -> dict[str, Any]:
  """Returns the parameters; `heads` defaults to the usual number."""
  patches = _PATCHES if _PATCHES in tensors else _PREFIX + _PATCHES
  heads = heads or pytorch.usual_heads(len(tensors[patches]))
  layers = _LAYERS | _READ_ONLY
  layers |= {name.removeprefix(_PREFIX): x for name, x in layers.items()}
  return pytorch.read(tensors, layers, heads)


def to_tensors(params: dict[str, Any]) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by the names of transformers."""
  return pytorch.to_tensors(params, _LAYERS, 'huggingface')


def settings(path: epath.Path, metadata: Mapping[str, str]) -> dict[str, Any]:
  """Returns the settings recorded next to a file, or transformers' defaults.

  Raises:
    ValueError: if the model has an activation other than GELU.
  """
  del metadata
  config = pytorch.read_config(path)
  labels = config.get('id2label') or {}
  names = tuple(labels[key] for key in sorted(labels, key=int))
  if names == _numbered_labels(len(names)):
    names = None
  size = config.get('image_size')
  recorded = {
    'gelu': pytorch.gelu(config.get('hidden_act', 'gelu'), _GELUS),
    'norm_eps': config.get('layer_norm_eps', 1e-12),
    'heads': config.get('num_attention_heads'),
    'class_names': names,
    'image_size': size and positions.as_pair(size),
  }
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
  """Writes a folder for ViTForImageClassification or, without a head, ViTModel.

  The folder must be new, or from an earlier call. Existing weights are removed
  first and the new ones written last, so it never mixes files of two models.
  Default class names are LABEL_0, LABEL_1, ...; the default image size, in
  pixels, is that of a square grid of patches.

  Raises:
    ImportError: if the safetensors library is not installed.
    ValueError: if transformers does not support the model, or if the folder
      contains other files.
  """
  if 'cls' not in params:
    raise ValueError(
      "Hugging Face's ViT classifies from a class token, but the model has none"
      ' (no parameter cls); use the timm format.'
    )
  tensors = to_tensors(params)
  config = _config(params, gelu, norm_eps, image_size, class_names)
  preprocessor = _preprocessor(config['image_size'])
  files = {pytorch.CONFIG: config, _PREPROCESSOR: preprocessor}
  if path.exists():
    # A killed write may have left a temporary file.
    existing = {file.name.removesuffix('.tmp') for file in path.iterdir()}
    if foreign := existing - {*files, WEIGHTS}:
      raise ValueError(
        f'the folder contains other files, such as {min(foreign)}; choose a'
        ' new folder.'
      )
    (path / WEIGHTS).unlink(missing_ok=True)
  for name, content in files.items():
    atomic.write_bytes(path / name, json.dumps(content, indent=2).encode())
  safetensors_file.write(tensors, {}, path / WEIGHTS)


def _numbered_labels(number):
  return tuple(f'LABEL_{i}' for i in range(number))


def _config(params, gelu, norm_eps, image_size, class_names):
  sizes = description.sizes(params)
  patch = sizes['patch_size']
  tokens = params['Transformer']['posembed_input']['pos_embedding'].shape[1] - 1
  if image_size is None:
    side = math.isqrt(tokens)
    image_size = side * patch[0], side * patch[1]
  image_size = positions.as_pair(image_size)
  if np.prod(positions.grid_shape(image_size, patch)) != tokens:
    raise ValueError(
      f'{official.POSITIONS!r} is for {tokens} patches, but an image of'
      f' {image_size[0]}x{image_size[1]} px has a different number of'
      f' {patch[0]}x{patch[1]} patches; pass the right'
      ' image_size=(HEIGHT, WIDTH).'
    )
  classes = description.num_classes(params)
  names = class_names or _numbered_labels(classes)
  if len(names) != classes:
    raise ValueError(
      f'got {len(names)} class names for {classes} classes; pass one per class.'
    )
  return {
    'architectures': ['ViTForImageClassification' if classes else 'ViTModel'],
    'model_type': 'vit',
    'hidden_size': sizes['width'],
    'num_hidden_layers': sizes['depth'],
    'num_attention_heads': sizes['heads'],
    'intermediate_size': sizes['mlp_dim'],
    'hidden_act': next(k for k, v in _GELUS.items() if v == gelu),
    'layer_norm_eps': norm_eps,
    'image_size': _number_or_list(image_size),
    'patch_size': _number_or_list(patch),
    'num_channels': 3,
    'qkv_bias': True,
    'hidden_dropout_prob': 0.0,
    'attention_probs_dropout_prob': 0.0,
    'id2label': dict(enumerate(names)),
    'label2id': {name: i for i, name in enumerate(names)},
  }


def _preprocessor(image_size):
  height, width = positions.as_pair(image_size)
  return {
    'image_processor_type': 'ViTImageProcessor',
    'do_resize': True,
    'size': {'height': height, 'width': width},
    'resample': 2,  # Bilinear.
    'do_rescale': True,
    'rescale_factor': 1 / 255,
    'do_normalize': True,  # To [-1, 1].
    'image_mean': [0.5] * 3,
    'image_std': [0.5] * 3,
  }


def _number_or_list(size):
  return size[0] if size[0] == size[1] else list(size)
