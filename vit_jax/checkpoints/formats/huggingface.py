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

from vit_jax.checkpoints import atomic, description, normalization
from vit_jax.checkpoints.formats import (
  official,
  pytorch,
  safetensors_file,
  stored,
)
from vit_jax.models import positions

WEIGHTS = 'model.safetensors'
_PREPROCESSOR = 'preprocessor_config.json'
FILES = (WEIGHTS, pytorch.CONFIG, _PREPROCESSOR)

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
_LOSSES = {
  'single_label_classification': 'softmax',
  'multi_label_classification': 'sigmoid',
}
# Filters of PIL by their numbers.
_RESAMPLES = {2: 'bilinear', 3: 'bicubic_antialias', 1: 'lanczos_antialias'}
# Types of the keys that are read.
_CONFIG_TYPES = {
  'id2label': dict, 'image_size': (int, list), 'hidden_act': str,
  'pooler_act': str, 'problem_type': str, 'layer_norm_eps': (float, int),
  'num_attention_heads': int,
}  # fmt: skip
_PREPROCESSOR_TYPES = {'rescale_factor': (float, int), 'resample': int}
# Keys of preprocessor_config.json that do not change the pixels of RGB images.
_NO_EFFECT = (
  'image_processor_type',
  'feature_extractor_type',
  'processor_class',
  'auto_map',
  'backend',
  'use_fast',
  'device',
  'disable_grouping',
  'do_convert_rgb',
  'data_format',
  'input_data_format',
  'return_tensors',
  'do_reduce_labels',
  'reduce_labels',
  'transformers_version',
  '_valid_processor_keys',
)


def matches(names: Collection[str]) -> bool:
  """Returns whether arrays with these names come from transformers."""
  return _PREFIX + _PATCHES in names or _PATCHES in names


def read(
  tensors: Mapping[str, np.ndarray], heads: int | None = None, settings=None
) -> dict[str, Any]:
  """Returns the parameters; `heads` defaults to the usual number."""
  del settings
  patches = _PATCHES if _PATCHES in tensors else _PREFIX + _PATCHES
  width = pytorch.outputs(patches, tensors[patches])
  heads = heads or pytorch.usual_heads(width)
  layers = _LAYERS | _READ_ONLY
  layers |= {name.removeprefix(_PREFIX): x for name, x in layers.items()}
  return pytorch.read(tensors, layers, heads)


def to_tensors(params: dict[str, Any]) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by the names of transformers."""
  return pytorch.to_tensors(params, _LAYERS, 'huggingface')


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
    found[pytorch.CONFIG] = _model_settings(config)
  preprocessor = pytorch.read_json(path, _PREPROCESSOR, _PREPROCESSOR_TYPES)
  if preprocessor:
    found[_PREPROCESSOR] = _image_settings(preprocessor)
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
  problem = config.get('problem_type')
  if problem not in (None, *_LOSSES):
    raise ValueError(
      f'{pytorch.CONFIG} specifies problem_type={problem!r}; supported:'
      f' {", ".join(_LOSSES)}.'
    )
  return {
    'loss': _LOSSES.get(problem),
    'gelu': activation and pytorch.gelu(activation, _GELUS),
    'norm_eps': config.get('layer_norm_eps'),
    'heads': config.get('num_attention_heads'),
    'class_names': names,
    'image_size': description.check_size(f'{pytorch.CONFIG}: image_size', size),
  }


def _image_settings(config):
  """Returns normalization and evaluation of a preprocessor_config.json."""
  given = {
    key: value
    for key, value in config.items()
    if key not in _NO_EFFECT and value is not None
  }
  scale = given.pop('rescale_factor', 1 / 255)
  if not 0 < scale < math.inf:
    raise ValueError(
      f'{_PREPROCESSOR} specifies rescale_factor={scale!r}; expected a positive'
      ' number.'
    )
  if not given.pop('do_rescale', True):
    scale = 1
  mean, std = given.pop('image_mean', None), given.pop('image_std', None)
  if not given.pop('do_normalize', True):
    mean, std = 0, 1
  if mean is None or std is None:
    raise ValueError(
      f'{_PREPROCESSOR} has no {"image_mean" if mean is None else "image_std"};'
      ' add it, or set do_normalize=false.'
    )
  recorded = {
    # These are for `pixel * scale`, ours for `pixel / 255`.
    name: normalization.check(
      f'{_PREPROCESSOR}: image_{name}', values, scale=255 * scale
    )
    for name, values in (('mean', mean), ('std', std))
  }
  evaluation = _evaluation(given)
  if unknown := [key for key, value in given.items() if value]:
    key = unknown[0]
    raise ValueError(
      f'{_PREPROCESSOR} specifies {key}={given[key]!r}, which is not supported;'
      ' remove it if it does not affect pixel values.'
    )
  return recorded | {'evaluation': evaluation}


def _evaluation(given):
  """Returns resize and crop, and removes their keys from `given`."""
  size = given.pop('size', None) if given.pop('do_resize', True) else None
  crop = given.pop('crop_size', None)
  crop = crop if given.pop('do_center_crop', False) else None
  resample = given.pop('resample', None)
  if size is None and crop is None:
    return None
  text = f'{_PREPROCESSOR} specifies size={size!r}, crop_size={crop!r}'
  sides = _sides(size, given.pop('default_to_square', True))
  target = _sides(crop, True)
  if sides is None or (target is None and len(sides) == 1):
    raise ValueError(
      f'{text}, which does not give all images the same size; set size to'
      ' {"height": ..., "width": ...}, or add do_center_crop and crop_size.'
    )
  interpolation = 'bilinear'
  if resample is not None:
    setting = f'{_PREPROCESSOR}: resample'
    interpolation = pytorch.interpolation(resample, _RESAMPLES, setting)
  if target is None:
    return description.Evaluation('resize', interpolation, sides)
  precrop = sides * 2 if len(sides) == 1 else sides
  if len(target) == 1 or target[0] > precrop[0] or target[1] > precrop[1]:
    raise ValueError(f'{text}; expected a crop no larger than size.')
  kind = 'center' if len(sides) == 1 else 'resize_center'
  return description.Evaluation(kind, interpolation, target, precrop)


def _sides(size, default_to_square):
  """Returns (shortest side,) or (height, width) in px; None if not given."""
  match size:
    case None:
      return None
    case {'height': int(height), 'width': int(width)}:
      return height, width
    case {'shortest_edge': int(side), **others} if not any(others.values()):
      return (side,)
    case int(side):
      return (side, side) if default_to_square else (side,)
    case [int(height), int(width)]:
      return height, width
  raise ValueError(
    f'{_PREPROCESSOR} specifies the size {size!r}; expected height and width,'
    ' or shortest_edge.'
  )


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
  preprocessor = _preprocessor(config['image_size'], evaluation)
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


def _preprocessor(image_size, evaluation):
  image_size = evaluation.image_size or positions.as_pair(image_size)
  filter = evaluation.interpolation.removesuffix('_antialias')
  content = {
    'image_processor_type': 'ViTImageProcessor',
    'do_resize': True,
    'size': _height_and_width(image_size),
    'resample': next(k for k, v in _RESAMPLES.items() if v.startswith(filter)),
    'do_rescale': True,
    'rescale_factor': 1 / 255,
    'do_normalize': True,  # To [-1, 1].
    'image_mean': [0.5] * 3,
    'image_std': [0.5] * 3,
  }
  if evaluation.trim_px:
    raise ValueError(
      f'{_PREPROCESSOR} cannot store trim_px={evaluation.trim_px}; export'
      ' without it.'
    )
  if evaluation.crop == 'resize':
    return content
  precrop = evaluation.precrop_size
  if precrop is None:
    precrop = tuple(round(side * 7 / 6) for side in image_size)
  size = _height_and_width(precrop)
  if evaluation.crop == 'center':
    if precrop[0] != precrop[1]:
      raise ValueError(
        f'{_PREPROCESSOR} cannot store a center crop from {precrop[0]}x'
        f'{precrop[1]} px, which is not a square.'
      )
    size = {'shortest_edge': precrop[0]}
  return content | {
    'image_processor_type': 'BitImageProcessor',
    'size': size,
    'do_center_crop': True,
    'crop_size': _height_and_width(image_size),
  }


def _height_and_width(size):
  return dict(zip(('height', 'width'), size, strict=True))


def _number_or_list(size):
  return size[0] if size[0] == size[1] else list(size)
