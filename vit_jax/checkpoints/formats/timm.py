"""Files of timm: a .safetensors file, and possibly a config.json next to it."""

from collections.abc import Collection, Mapping, Sequence
import dataclasses
import json
import math
import re
from typing import Any

from etils import epath
import numpy as np

from vit_jax.checkpoints import description, normalization
from vit_jax.checkpoints.formats import (
  official,
  pytorch,
  safetensors_file,
  stored,
)

_PATCHES = 'patch_embed.proj.weight'
_MAP = 'MAPHead_0'
_MAP_ATTENTION = f'{_MAP}/MultiHeadDotProductAttention_0'
_LAYERS = {
  'cls_token': ('cls',),
  'reg_token': ('registers',),
  'pos_embed': (official.POSITIONS,),
  'patch_embed.proj': ('embedding',),
  'blocks.{}.norm1': (f'{pytorch.BLOCK}/LayerNorm_0',),
  'blocks.{}.attn.qkv': (pytorch.QUERY, pytorch.KEY, pytorch.VALUE),
  'blocks.{}.attn.proj': (f'{pytorch.ATTENTION}/out',),
  'blocks.{}.norm2': (f'{pytorch.BLOCK}/LayerNorm_1',),
  'blocks.{}.mlp.fc1': (f'{pytorch.BLOCK}/MlpBlock_0/Dense_0',),
  'blocks.{}.mlp.fc2': (f'{pytorch.BLOCK}/MlpBlock_0/Dense_1',),
  'norm': ('Transformer/encoder_norm',),
  'fc_norm': ('fc_norm',),
  'attn_pool.latent': (f'{_MAP}/probe',),
  'attn_pool.q': (f'{_MAP_ATTENTION}/query',),
  'attn_pool.kv': (f'{_MAP_ATTENTION}/key', f'{_MAP_ATTENTION}/value'),
  'attn_pool.proj': (f'{_MAP_ATTENTION}/out',),
  'attn_pool.norm': (f'{_MAP}/LayerNorm_0',),
  'attn_pool.mlp.fc1': (f'{_MAP}/MlpBlock_0/Dense_0',),
  'attn_pool.mlp.fc2': (f'{_MAP}/MlpBlock_0/Dense_1',),
  'head': ('head',),
}
# Layers that are only read: those of other versions of timm, hidden layers of
# heads, and LayerScale.
_READ_ONLY = {
  'blocks.{}.attn.q_proj': (pytorch.QUERY,),
  'blocks.{}.attn.k_proj': (pytorch.KEY,),
  'blocks.{}.attn.v_proj': (pytorch.VALUE,),
  'pre_logits.fc': ('pre_logits',),
  'blocks.{}.ls1.gamma': (pytorch.ATTENTION_SCALE,),
  'blocks.{}.ls2.gamma': (pytorch.MLP_SCALE,),
}
# MAE's decoder in files of its authors, which otherwise have timm's names.
_MAE_DECODER = r'decoder_|mask_token$'
# Parameters with an axis of tokens.
_TOKENS = ('cls', 'registers', official.POSITIONS)
_GELUS = {'gelu': 'erf', 'gelu_tanh': 'tanh'}
_RECORDED = 'its metadata'  # Only files of this project have any of these.
# The strings that `write` stores in a file, and how to parse them.
_METADATA = {
  'gelu': str,
  'norm_eps': float,
  'heads': int,
  'pool': str,
  'class_names': lambda names: tuple(json.loads(names)),
  'evaluation': lambda text: description.Evaluation(**json.loads(text)),
  'mean': lambda numbers: normalization.check('mean', json.loads(numbers)),
  'std': lambda numbers: normalization.check('std', json.loads(numbers)),
}
# What timm assumes for keys that a pretrained_cfg lacks.
_CFG_DEFAULTS = {
  'interpolation': 'bicubic',
  'crop_pct': 0.875,
  'crop_mode': 'center',
  'mean': (0.485, 0.456, 0.406),
  'std': (0.229, 0.224, 0.225),
}
_CFG_KEYS = ('input_size', *_CFG_DEFAULTS)
# Types of the keys that are read.
_CONFIG_TYPES = {
  'architecture': str,
  'global_pool': str,
  'label_names': list,
  'model_args': dict,
  'pretrained_cfg': dict,
}
_CFG_TYPES = {
  'input_size': list,
  'interpolation': str,
  'crop_pct': (float, int),
  'crop_mode': str,
}
_INTERPOLATIONS = {
  'bilinear': 'bilinear',
  'bicubic': 'bicubic_antialias',
  'lanczos': 'lanczos_antialias',
}
_CROPS = {'center': 'center', 'squash': 'resize_center'}
# The mean may be before or after a norm; the parameters show which.
_POOLS = {'': None, 'token': 'token', 'avg': 'gap', 'map': 'map'}
# Architectures for which timm replaces the default of an argument.
_UNRELIABLE_DEFAULTS = {
  r'quickgelu|(base_patch32|so400m_patch16|giantopt_patch16)_siglip'
  r'|large_patch16_siglip_(gap_)?512': 'act_layer',
  r'_base_patch\d+_gap_': 'num_heads',
}
# Arguments of timm's VisionTransformer that its parameters determine, or that
# do not affect predictions. Others are rejected.
_IMPLIED = (
  'img_size', 'patch_size', 'in_chans', 'num_classes', 'embed_dim', 'depth',
  'mlp_ratio', 'qkv_bias', 'qk_norm', 'scale_attn_norm', 'scale_mlp_norm',
  'proj_bias', 'init_values', 'class_token', 'no_embed_class', 'reg_tokens',
  'pre_norm', 'final_norm', 'fc_norm', 'dynamic_img_size', 'strict_img_size',
  'drop_rate', 'pos_drop_rate', 'patch_drop_rate', 'proj_drop_rate',
  'attn_drop_rate', 'drop_path_rate', 'weight_init', 'fix_init',
)  # fmt: skip


def matches(names: Collection[str]) -> bool:
  """Returns whether arrays with these names come from timm."""
  return _PATCHES in names


def read(
  tensors: Mapping[str, np.ndarray],
  heads: int | None = None,
  settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
  """Returns the parameters.

  Args:
    tensors: arrays by timm's names.
    heads: number of attention heads; None for the usual number.
    settings: from `settings`; they determine which tokens have positions.
  """
  _check_mlp(tensors)
  params = pytorch.read(tensors, _LAYERS | _READ_ONLY, heads, _MAE_DECODER)
  return _with_usual_positions(params, settings or {})


def _check_mlp(tensors):
  """Rejects a gated MLP, whose first layer has the outputs of two layers."""
  names = [f'blocks.0.mlp.{layer}.weight' for layer in ('fc1', 'fc2')]
  shapes = [tensors[name].shape for name in names if name in tensors]
  if [len(shape) for shape in shapes] == [2, 2]:
    (outputs, _), (_, inputs) = shapes
    if outputs == 2 * inputs:
      raise ValueError(
        f'parameter {names[0]!r} has {outputs} outputs, but {names[1]!r} has'
        f' {inputs} inputs; models with a gated MLP (SwiGLU) are not supported.'
      )


def _with_usual_positions(params, settings):
  """Returns the parameters with one position per class token and patch.

  In timm, all tokens have positions, or only patches (`no_embed_class`). The
  position of a class token that has none is zero; those of registers are added
  to the registers themselves.
  """
  flat = official.flatten(params)
  shapes = [flat[x].shape for x in _TOKENS if x in flat]
  if any(len(x) != 3 or x[::2] != shapes[0][::2] for x in shapes):
    return params  # Rejected by the check of all shapes.
  table = flat.get(official.POSITIONS)
  first, registers = (
    flat[x].shape[1] if x in flat else 0 for x in ('cls', 'registers')
  )
  if table is None or not first + registers:
    return params
  if _only_patches_have_positions(flat, first + registers, settings):
    parts = [np.zeros_like(table[:, :first]), table]
  else:
    parts = np.split(table, [first, first + registers], axis=1)
    extra = parts.pop(1)
    if registers:
      flat['registers'] = flat['registers'] + extra
  flat[official.POSITIONS] = np.concatenate(parts, axis=1)
  return official.unflatten(flat)


def _only_patches_have_positions(flat, prefix, settings):
  """Returns whether tokens before the patches have no positions.

  If no config.json records the image size, a square number of positions is
  taken to be that of the patches.

  Args:
    flat: parameters by name.
    prefix: number of tokens before the patches.
    settings: from `settings`.
  """
  length = flat[official.POSITIONS].shape[1]
  if settings.get(_RECORDED):
    return 'registers' in flat  # As in `to_tensors`.
  size = settings.get(pytorch.CONFIG, {}).get('image_size')
  kernel = flat['embedding/kernel']
  if size and kernel.size:
    sides = zip(size, kernel.shape, strict=False)
    patches = math.prod(side // patch for side, patch in sides)
    if patches in (length, length - prefix):
      return patches == length
  return length <= prefix or _is_square(length)


def _is_square(number):
  return number > 0 and math.isqrt(number) ** 2 == number


def to_tensors(params: dict[str, Any]) -> dict[str, np.ndarray]:
  """Returns the arrays of a file by timm's names.

  If there are registers, positions are of patches only (timm's
  `no_embed_class`); that of the class token is added to the token itself.
  """
  flat = official.flatten(params)
  if {'registers', 'cls', official.POSITIONS} <= flat.keys():
    flat['cls'] = flat['cls'] + flat[official.POSITIONS][:, :1]
    flat[official.POSITIONS] = flat[official.POSITIONS][:, 1:]
  return pytorch.to_tensors(official.unflatten(flat), _LAYERS, 'timm')


def settings(
  path: epath.Path, metadata: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
  """Returns the settings recorded in and next to a file, and timm's defaults.

  The metadata of the file takes precedence over the config.json.

  Raises:
    ValueError: if a setting is not supported.
  """
  found = {description.ASSUMED: {'gelu': 'erf', 'norm_eps': 1e-6}}
  if config := pytorch.read_json(path, pytorch.CONFIG, _CONFIG_TYPES):
    arguments = config.get('model_args') or {}
    cfg = config.get('pretrained_cfg')
    if cfg is None:  # Older versions of timm write its keys at the top level.
      cfg = {k: config[k] for k in _CFG_KEYS if k in config}
    pytorch.check_types(cfg, _CFG_TYPES, pytorch.CONFIG)
    if cfg:
      found["timm's defaults"] = {k: _CFG_DEFAULTS[k] for k in ('mean', 'std')}
    pool = arguments.get('global_pool', config.get('global_pool'))
    names = config.get('label_names')
    found[pytorch.CONFIG] = {
      **_model_settings(arguments, pool, config.get('architecture')),
      **_image_settings(cfg),
      'class_names': names and tuple(names),
    }
    if (size := arguments.get('img_size')) is not None:
      size = description.check_size(f'{pytorch.CONFIG}: img_size', size)
      found[pytorch.CONFIG]['image_size'] = size
  found[_RECORDED] = {
    k: _parse(k, metadata[k]) for k in _METADATA if k in metadata
  }
  return found


def _parse(name, text):
  """Returns a setting from the metadata of a file."""
  try:
    return _METADATA[name](text)
  except (ValueError, TypeError, RecursionError) as error:
    raise ValueError(
      f'its metadata specifies {name}={stored.shortened(repr(text))}, which'
      ' this package never writes; remove it, or export the weights again.'
    ) from error


def _model_settings(arguments, pool, architecture):
  """Returns what the arguments of timm's VisionTransformer specify."""
  supported = {
    'act_layer': (None, *_GELUS),
    'norm_layer': (None, 'layernorm'),
    'global_pool': (None, *_POOLS),
    'num_heads': None,
    'pos_embed': ('learn', None),
  } | dict.fromkeys(_IMPLIED)
  for name, value in (arguments | {'global_pool': pool}).items():
    allowed = supported.get(name, (None,))
    if value and allowed and value not in allowed:
      raise ValueError(
        f'{pytorch.CONFIG} specifies {name}={value!r}, which is not supported'
        + f'; known: {", ".join(filter(None, allowed))}' * (len(allowed) > 1)
        + '.'
      )
  for pattern, name in _UNRELIABLE_DEFAULTS.items():
    if re.search(pattern, architecture or '') and not arguments.get(name):
      raise ValueError(
        f'{pytorch.CONFIG} does not specify {name}, whose default may be wrong'
        f' for {architecture}; add the value that timm uses, as "model_args":'
        f' {{"{name}": ...}}.'
      )
  activation = arguments.get('act_layer')
  return {
    'gelu': activation and _GELUS[activation],
    'heads': arguments.get('num_heads'),
    'pool': _POOLS.get(pool),
  }


def _image_settings(cfg):
  """Returns the normalization and evaluation of a pretrained_cfg."""
  given = {k: cfg[k] for k in _CFG_KEYS if cfg.get(k) is not None}
  recorded = {
    k: normalization.check(f'{pytorch.CONFIG}: {k}', given[k])
    for k in ('mean', 'std')
    if k in given
  }
  given = _CFG_DEFAULTS | given
  kind, share = given['crop_mode'], given['crop_pct']
  if kind not in _CROPS or not 0.01 <= share <= 1:
    raise ValueError(
      f'{pytorch.CONFIG} specifies crop_mode={kind!r}, crop_pct={share!r};'
      f' expected crop_mode={" or ".join(_CROPS)}, and 0 < crop_pct <= 1.'
    )
  interpolation = pytorch.interpolation(
    given['interpolation'],
    _INTERPOLATIONS,
    f'{pytorch.CONFIG}: interpolation',
  )
  if 'input_size' not in given:
    return recorded
  size = description.check_size(
    f'{pytorch.CONFIG}: input_size', given['input_size'][1:]
  )
  evaluation = description.Evaluation(
    _CROPS[kind],
    interpolation,
    image_size=size,
    precrop_size=tuple(math.floor(side / share) for side in size),
  )
  return recorded | {'evaluation': evaluation, 'image_size': size}


def write(
  params: dict[str, Any],
  path: epath.Path,
  *,
  gelu: str,
  norm_eps: float,
  class_names: Sequence[str] | None,
  evaluation: description.Evaluation,
  image_size: int | tuple[int, int] | None,
  pool: str | None = None,
) -> None:
  """Writes a .safetensors file with the settings in its metadata.

  Raises:
    ImportError: if the safetensors library is not installed.
    ValueError: if the format cannot store a parameter.
  """
  del image_size
  tensors = to_tensors(params)
  sizes = description.sizes(params)
  metadata = {
    'gelu': gelu,
    'norm_eps': repr(norm_eps),
    'heads': str(sizes['heads']),
  }
  # Unlike those of timm, these weights are for images in [-1, 1].
  channels = sizes.get('channels', 3)
  metadata |= dict.fromkeys(('mean', 'std'), json.dumps([0.5] * channels))
  metadata['evaluation'] = json.dumps(dataclasses.asdict(evaluation))
  if pool is not None:
    metadata['pool'] = pool
  if class_names is not None:
    metadata['class_names'] = json.dumps(list(class_names))
  safetensors_file.write(tensors, metadata, path)
