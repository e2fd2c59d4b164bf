"""Folders of the Hugging Face Hub: weights and JSON files that describe them.

`model.safetensors` with a `config.json` of transformers or timm beside it, and
`preprocessor_config.json`, which tells how images become pixel values.
"""

from collections.abc import Mapping, Sequence
import json
import math
from typing import Any

from etils import epath
import numpy as np

from vit_jax.checkpoints import atomic, description
from vit_jax.checkpoints.formats import official, pytorch, safetensors_file
from vit_jax.models import positions

WEIGHTS = 'model.safetensors'
CONFIG = 'config.json'
_PREPROCESSOR = 'preprocessor_config.json'

# Names of activations in transformers; the first of each form is written.
_TRANSFORMERS_GELUS = {
  'gelu': 'erf',
  'gelu_pytorch_tanh': 'tanh',
  'gelu_new': 'tanh',
  'gelu_fast': 'tanh',
  'gelu_python': 'erf',
}
_TIMM_GELUS = {'gelu': 'erf', 'gelu_tanh': 'tanh'}


def settings(
  weights: epath.Path, dialect: str, metadata: Mapping[str, str]
) -> dict[str, Any]:
  """Returns what is known of a file of PyTorch weights besides its arrays.

  Where nothing is said, the defaults of the library hold.

  Args:
    weights: the file; a `config.json` beside it is looked at.
    dialect: 'timm' or 'huggingface'.
    metadata: the strings in the file; those that `timm_metadata` makes hold
      before all.

  Returns:
    'gelu' and 'norm_eps', and where they are told 'heads', 'class_names' and
    'image_size'.

  Raises:
    ValueError: if the activation is none of this project's.
  """
  config = {}
  if (weights.parent / CONFIG).exists():
    config = json.loads((weights.parent / CONFIG).read_text())
  if dialect == 'huggingface':
    found = _transformers_settings(config)
  else:
    found = _timm_settings(config) | _metadata_settings(metadata)
  return {key: value for key, value in found.items() if value is not None}


def timm_metadata(
  params: Mapping[str, Any],
  *,
  gelu: str,
  norm_eps: float,
  class_names: Sequence[str] | None,
) -> dict[str, str]:
  """Strings for a timm file, which has no other place for these settings."""
  heads = description.sizes(params)['heads']
  strings = {'gelu': gelu, 'norm_eps': repr(norm_eps), 'heads': str(heads)}
  if class_names is not None:
    strings['class_names'] = json.dumps(list(class_names))
  return strings


def write(
  params: dict[str, Any],
  folder: epath.Path,
  *,
  gelu: str,
  norm_eps: float,
  image_size: int | tuple[int, int] | None,
  class_names: Sequence[str] | None,
) -> None:
  """Writes a folder for transformers' ViTForImageClassification.

  Without a head it is for ViTModel. The weights come last, and those of an
  earlier folder go first: files of two models are never seen together.

  Args:
    params: a tree under official names.
    folder: new, or an earlier one of the same kind.
    gelu: 'tanh' or 'erf'.
    norm_eps: what LayerNorms add to the variance.
    image_size: in pixels; None for a square grid of patches.
    class_names: in the order of the labels; None for LABEL_0, LABEL_1, ...

  Raises:
    ValueError: if the model is not one that these classes compute, or the
      folder has other files.
  """
  if 'cls' not in params:
    raise ValueError(
      "Hugging Face's ViT classifies from a class token, and this model has"
      ' none (no parameter cls); use the timm format.'
    )
  tensors = pytorch.write(params, 'huggingface')
  config = _transformers_config(params, gelu, norm_eps, image_size, class_names)
  files = {CONFIG: config, _PREPROCESSOR: _preprocessor(config['image_size'])}
  if folder.exists():
    # A write that was killed may have left an unfinished file.
    found = {path.name.removesuffix('.tmp') for path in folder.iterdir()}
    foreign = found - {*files, WEIGHTS}
    if foreign:
      raise ValueError(
        f'the folder has files of another kind, such as {min(foreign)}; choose'
        ' a new folder.'
      )
    (folder / WEIGHTS).unlink(missing_ok=True)
  for name, content in files.items():
    data = json.dumps(content, indent=2).encode()
    atomic.write_bytes(folder / name, data)
  safetensors_file.write(tensors, {}, folder / WEIGHTS)


def _transformers_settings(config):
  labels = config.get('id2label') or {}
  names = tuple(labels[key] for key in sorted(labels, key=int))
  if names == _numbered_labels(len(names)):
    names = None
  size = config.get('image_size')
  return {
    'gelu': _gelu(config.get('hidden_act', 'gelu'), _TRANSFORMERS_GELUS),
    'norm_eps': config.get('layer_norm_eps', 1e-12),
    'heads': config.get('num_attention_heads'),
    'class_names': names,
    'image_size': size and positions.as_pair(size),
  }


def _timm_settings(config):
  arguments = config.get('model_args') or {}
  size = (config.get('pretrained_cfg') or {}).get('input_size')
  names = config.get('label_names')
  return {
    'gelu': _gelu(arguments.get('act_layer') or 'gelu', _TIMM_GELUS),
    'norm_eps': 1e-6,
    'heads': arguments.get('num_heads'),
    'class_names': names and tuple(names),
    'image_size': size and tuple(size[1:]),
  }


def _metadata_settings(metadata):
  types = {
    'gelu': str,
    'norm_eps': float,
    'heads': int,
    'class_names': lambda names: tuple(json.loads(names)),
  }
  return {k: of(metadata[k]) for k, of in types.items() if k in metadata}


def _gelu(name, known):
  if name not in known:
    raise ValueError(
      f'the activation is {name!r} by {CONFIG}; the Vision Transformer here has'
      f' one of {", ".join(known)}.'
    )
  return known[name]


def _numbered_labels(number):
  return tuple(f'LABEL_{i}' for i in range(number))


def _transformers_config(params, gelu, norm_eps, image_size, class_names):
  sizes = description.sizes(params)
  patch = sizes['patch_size']
  tokens = params['Transformer']['posembed_input']['pos_embedding'].shape[1] - 1
  if image_size is None:
    side = math.isqrt(tokens)
    image_size = side * patch[0], side * patch[1]
  image_size = positions.as_pair(image_size)
  if np.prod(positions.grid_shape(image_size, patch)) != tokens:
    raise ValueError(
      f'{official.POSITIONS!r} is for {tokens} patches, which are not those of'
      f' an image of {image_size[0]}x{image_size[1]} px in patches of'
      f' {patch[0]}x{patch[1]}; give the right image_size=(HEIGHT, WIDTH).'
    )
  classes = description.num_classes(params)
  names = class_names or _numbered_labels(classes)
  if len(names) != classes:
    raise ValueError(
      f'got {len(names)} class names for {classes} classes; give one for each.'
    )
  return {
    'architectures': ['ViTForImageClassification' if classes else 'ViTModel'],
    'model_type': 'vit',
    'hidden_size': sizes['width'],
    'num_hidden_layers': sizes['depth'],
    'num_attention_heads': sizes['heads'],
    'intermediate_size': sizes['mlp_dim'],
    'hidden_act': next(k for k, v in _TRANSFORMERS_GELUS.items() if v == gelu),
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
  height, width = size
  return height if height == width else [height, width]
