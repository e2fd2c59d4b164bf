"""Folders of Hugging Face's transformers: weights and two JSON files.

`model.safetensors` holds a model, `config.json` its sizes and settings, and
`preprocessor_config.json` how images become pixel values. Models are those of
the classes ViT (also of DINO, DeiT), ViTMAE, Dinov2 and Dinov2WithRegisters.
"""

from collections.abc import Collection, Mapping, Sequence
import json
import math
from typing import Any

from etils import epath
import numpy as np

from vit_jax.checkpoints import atomic, description
from vit_jax.checkpoints.formats import (
  image_processor,
  official,
  pytorch,
  safetensors_file,
  stored,
)
from vit_jax.models import positions

WEIGHTS = 'model.safetensors'
FILES = (WEIGHTS, pytorch.CONFIG, image_processor.FILE)

_MLP = f'{pytorch.BLOCK}/MlpBlock_0'
_PATCHES = 'embeddings.patch_embeddings.projection.weight'
# Layers outside of blocks.
_OUTER_LAYERS = {
  'embeddings.cls_token': ('cls',),
  'embeddings.register_tokens': ('registers',),
  'embeddings.position_embeddings': (official.POSITIONS,),
  'embeddings.patch_embeddings.projection': ('embedding',),
  'layernorm': ('Transformer/encoder_norm',),
}
_HEAD = {'classifier': ('head',)}
# Layers in a block, of all models and versions of transformers.
_BLOCK_LAYERS = {
  'norm1': f'{pytorch.BLOCK}/LayerNorm_0',
  'layernorm_before': f'{pytorch.BLOCK}/LayerNorm_0',
  'attention.attention.query': pytorch.QUERY,
  'attention.q_proj': pytorch.QUERY,
  'attention.attention.key': pytorch.KEY,
  'attention.k_proj': pytorch.KEY,
  'attention.attention.value': pytorch.VALUE,
  'attention.v_proj': pytorch.VALUE,
  'attention.output.dense': f'{pytorch.ATTENTION}/out',
  'attention.o_proj': f'{pytorch.ATTENTION}/out',
  'layer_scale1.lambda1': pytorch.ATTENTION_SCALE,
  'norm2': f'{pytorch.BLOCK}/LayerNorm_1',
  'layernorm_after': f'{pytorch.BLOCK}/LayerNorm_1',
  'mlp.fc1': f'{_MLP}/Dense_0',
  'intermediate.dense': f'{_MLP}/Dense_0',
  'mlp.fc2': f'{_MLP}/Dense_1',
  'output.dense': f'{_MLP}/Dense_1',
  'layer_scale2.lambda1': pytorch.MLP_SCALE,
}
_ATTENTION_NAMES = (
  'attention.attention.query', 'attention.attention.key',
  'attention.attention.value', 'attention.output.dense',
)  # fmt: skip
# Models that `write` writes, with the layers of their blocks in order. The
# second is written only for models with registers, which the first cannot have.
_VIT, _DINOV2 = 'vit', 'dinov2_with_registers'
_WRITTEN = {
  _VIT: (
    'layernorm_before', *_ATTENTION_NAMES, 'layernorm_after',
    'intermediate.dense', 'output.dense',
  ),
  _DINOV2: ('norm1', *_ATTENTION_NAMES, 'norm2', 'mlp.fc1', 'mlp.fc2'),
}  # fmt: skip
_CLASSES = {_VIT: 'ViT', _DINOV2: 'Dinov2WithRegisters'}
# What precedes the names of a model in the file of a model with a head.
_PREFIXES = ('', f'{_VIT}.', 'dinov2.', f'{_DINOV2}.')
# All layers that are read, without a prefix.
_READ = (
  _OUTER_LAYERS
  | _HEAD
  | {
    'embeddings.mask_token': ('mask_token',),
    'pooler.dense': ('pre_logits',),
    'decoder.0': ('decoder',),
  }
  | {
    f'{blocks}.{{}}.{layer}': (ours,)
    for blocks in ('encoder.layer', 'layers')
    for layer, ours in _BLOCK_LAYERS.items()
  }
)
# Parts of pre-training, which are left out: MAE's decoder, and the mask token
# of DINOv2, beside its LayerScale.
_MAE_DECODER = r'decoder\.(decoder_|mask_token)'
_DINOV2_UNUSED = r'(.*\.)?embeddings\.mask_token$'
# Names of activations in transformers; `write` uses the first of each form.
_GELUS = {
  'gelu': 'erf',
  'gelu_pytorch_tanh': 'tanh',
  'gelu_new': 'tanh',
  'gelu_fast': 'tanh',
  'gelu_python': 'erf',
}
_LOSSES = {
  'single_label_classification': 'softmax',
  'multi_label_classification': 'sigmoid',
}
# Types of the keys of config.json that are read.
_CONFIG_TYPES = {
  'id2label': dict, 'image_size': (int, list), 'hidden_act': str,
  'pooler_act': str, 'problem_type': str, 'layer_norm_eps': (float, int),
  'num_attention_heads': int, 'model_type': str, 'use_swiglu_ffn': bool,
  'vision_config': dict,
}  # fmt: skip


def matches(names: Collection[str]) -> bool:
  """Returns whether arrays with these names come from transformers."""
  return any(name.endswith(_PATCHES) for name in names)


def read(
  tensors: Mapping[str, np.ndarray], heads: int | None = None, settings=None
) -> dict[str, Any]:
  """Returns the parameters; `heads` defaults to the usual number.

  Raises:
    ValueError: if a parameter is not supported.
  """
  del settings
  layers = {p + name: ours for p in _PREFIXES for name, ours in _READ.items()}
  is_dinov2 = any('.layer_scale1.' in name for name in tensors)
  unused = _DINOV2_UNUSED if is_dinov2 else _MAE_DECODER
  params = pytorch.read(tensors, layers, heads, unused)
  return _with_plain_head(params) if is_dinov2 else params


def _with_plain_head(params):
  """Returns the parameters with a head for the class token only.

  The input of a DINOv2 classifier is the class token and the mean of patches.

  Raises:
    ValueError: if the head depends on the mean of patches.
  """
  flat = official.flatten(params)
  kernel, width = flat.get('head/kernel'), flat['embedding/kernel'].shape[-1]
  if kernel is None or len(kernel) != 2 * width:
    return params
  if np.any(kernel[width:]):
    raise ValueError(
      "parameter 'classifier.weight' is for the class token and the mean of"
      ' patches; such heads are not supported. Load the model without a head,'
      ' or remove classifier.weight and classifier.bias from the file.'
    )
  flat['head/kernel'] = kernel[:width]
  return official.unflatten(flat)


def _model_type(params):
  return _DINOV2 if 'registers' in params else _VIT


def to_tensors(params: dict[str, Any]) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by the names of transformers."""
  model = _model_type(params)
  layers = {f'{model}.{name}': ours for name, ours in _OUTER_LAYERS.items()}
  for name in _WRITTEN[model]:
    layers[f'{model}.encoder.layer.{{}}.{name}'] = (_BLOCK_LAYERS[name],)
  tensors = pytorch.to_tensors(params, layers | _HEAD, 'huggingface')
  return tensors if model == _VIT else _with_dinov2_parts(tensors, params)


def _with_dinov2_parts(tensors, params):
  """Adds what a DINOv2 also has, with values that have no effect.

  That is LayerScale, a mask token, and weights of the head for the mean of
  patches.
  """
  sizes = description.sizes(params)
  width = sizes['width']
  tensors[f'{_DINOV2}.embeddings.mask_token'] = np.zeros((1, width), 'f4')
  for block in range(sizes['depth']):
    for i in (1, 2):
      name = f'{_DINOV2}.encoder.layer.{block}.layer_scale{i}.lambda1'
      tensors[name] = np.ones(width, 'f4')
  if (head := tensors.get('classifier.weight')) is not None:
    head = np.concatenate([head, np.zeros_like(head)], axis=1)
    tensors['classifier.weight'] = head
  return tensors


def settings(
  path: epath.Path, metadata: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
  """Returns the settings recorded next to a file, and transformers' defaults.

  Raises:
    ValueError: if a setting is not supported.
  """
  del metadata
  found = {description.ASSUMED: {'gelu': 'erf', 'norm_eps': 1e-12}}
  if config := pytorch.read_json(path, pytorch.CONFIG, _CONFIG_TYPES):
    if (config.get('model_type') or '').startswith('dinov2'):
      found[description.ASSUMED]['norm_eps'] = 1e-6
    tower = config.get('vision_config') or {}  # Beside that of a text model.
    pytorch.check_types(
      tower, _CONFIG_TYPES, f'{pytorch.CONFIG}: vision_config'
    )
    found[pytorch.CONFIG] = _model_settings(config | tower)
  name = image_processor.FILE
  if processor := pytorch.read_json(path, name, image_processor.TYPES):
    found[name] = image_processor.settings(processor)
  return found


def _model_settings(config):
  labels = config.get('id2label') or {}
  if not all(key.isdecimal() for key in labels):
    raise ValueError(
      f'{pytorch.CONFIG} specifies id2label={stored.shortened(str(labels))};'
      ' expected names by number, such as {"0": "cat", "1": "dog"}.'
    )
  names = tuple(labels[key] for key in sorted(labels, key=int))
  if names == _numbered_labels(len(names)):
    names = None
  size = config.get('image_size')
  activation = config.get('hidden_act')
  if config.get('pooler_act', 'tanh') != 'tanh':
    raise ValueError(
      f'{pytorch.CONFIG} specifies pooler_act={config["pooler_act"]!r}; the'
      ' hidden layer of a head is only supported with tanh.'
    )
  if config.get('use_swiglu_ffn'):
    raise ValueError(
      f'{pytorch.CONFIG} specifies use_swiglu_ffn=true; models with a gated MLP'
      ' (SwiGLU) are not supported.'
    )
  problem = config.get('problem_type')
  if problem not in (None, *_LOSSES):
    raise ValueError(
      f'{pytorch.CONFIG} specifies problem_type={problem!r}; supported:'
      f' {", ".join(_LOSSES)}.'
    )
  return {
    'loss': _LOSSES.get(problem),
    'multi_label': problem == 'multi_label_classification' or None,
    'gelu': activation and pytorch.gelu(activation, _GELUS),
    'norm_eps': config.get('layer_norm_eps'),
    'heads': config.get('num_attention_heads'),
    'class_names': names,
    'image_size': description.check_size(f'{pytorch.CONFIG}: image_size', size),
  }


def write(
  params: dict[str, Any],
  path: epath.Path,
  *,
  gelu: str,
  norm_eps: float,
  class_names: Sequence[str] | None,
  evaluation: description.Evaluation,
  image_size: int | tuple[int, int] | None,
) -> None:
  """Writes a folder for ViTForImageClassification or, without a head, ViTModel.

  For models with registers, the classes begin with Dinov2WithRegisters instead.

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
  processor = image_processor.content(config['image_size'], evaluation)
  files = {pytorch.CONFIG: config, image_processor.FILE: processor}
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
  model = _model_type(params)
  kind = 'ForImageClassification' if classes else 'Model'
  return {
    'architectures': [_CLASSES[model] + kind],
    'model_type': model,
    'hidden_size': sizes['width'],
    'num_hidden_layers': sizes['depth'],
    'num_attention_heads': sizes['heads'],
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
  } | _model_config(model, sizes)


def _model_config(model, sizes):
  """Returns the keys of a config.json that only one kind of model has."""
  width, mlp_dim = sizes['width'], sizes['mlp_dim']
  if model == _VIT:
    return {'intermediate_size': mlp_dim}
  if mlp_dim % width:
    raise ValueError(
      f"Hugging Face's models with registers need an mlp_dim that is a multiple"
      f' of the width, but they are {mlp_dim} and {width}; use the timm format.'
    )
  return {
    'mlp_ratio': mlp_dim // width,
    'num_register_tokens': sizes['registers'],
    'layerscale_value': 1.0,
    'use_swiglu_ffn': False,
  }


def _number_or_list(size):
  return size[0] if size[0] == size[1] else list(size)
