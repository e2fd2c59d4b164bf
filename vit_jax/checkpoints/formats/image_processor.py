"""Files `preprocessor_config.json` of Hugging Face: images to pixel values."""

from collections.abc import Mapping
import math
from typing import Any

from vit_jax.checkpoints import description, normalization
from vit_jax.checkpoints.formats import pytorch
from vit_jax.models import positions

FILE = 'preprocessor_config.json'
# Types of the keys that are read.
TYPES = {'rescale_factor': (float, int), 'resample': int}
# Keys that do not change the pixels of RGB images.
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
# Filters of PIL by their numbers.
_RESAMPLES = {2: 'bilinear', 3: 'bicubic_antialias', 1: 'lanczos_antialias'}


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the normalization and the evaluation that a file specifies.

  Raises:
    ValueError: if a setting is not supported.
  """
  given = {
    key: value
    for key, value in config.items()
    if key not in _NO_EFFECT and value is not None
  }
  scale = given.pop('rescale_factor', 1 / 255)
  if not 0 < scale < math.inf:
    raise ValueError(
      f'{FILE} specifies rescale_factor={scale!r}; expected a positive number.'
    )
  if not given.pop('do_rescale', True):
    scale = 1
  mean, std = given.pop('image_mean', None), given.pop('image_std', None)
  if not given.pop('do_normalize', True):
    mean, std = 0, 1
  if mean is None or std is None:
    raise ValueError(
      f'{FILE} has no {"image_mean" if mean is None else "image_std"};'
      ' add it, or set do_normalize=false.'
    )
  recorded = {
    # These are for `pixel * scale`, ours for `pixel / 255`.
    name: normalization.check(
      f'{FILE}: image_{name}', values, scale=255 * scale
    )
    for name, values in (('mean', mean), ('std', std))
  }
  evaluation = _evaluation(given)
  if unknown := [key for key, value in given.items() if value]:
    key = unknown[0]
    raise ValueError(
      f'{FILE} specifies {key}={given[key]!r}, which is not supported;'
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
  text = f'{FILE} specifies size={size!r}, crop_size={crop!r}'
  sides = _sides(size, given.pop('default_to_square', True))
  target = _sides(crop, True)
  if sides is None or (target is None and len(sides) == 1):
    raise ValueError(
      f'{text}, which does not give all images the same size; set size to'
      ' {"height": ..., "width": ...}, or add do_center_crop and crop_size.'
    )
  interpolation = 'bilinear'
  if resample is not None:
    setting = f'{FILE}: resample'
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
    f'{FILE} specifies the size {size!r}; expected height and width,'
    ' or shortest_edge.'
  )


def content(
  image_size: int | tuple[int, int],
  evaluation: description.Evaluation,
  channels: int,
) -> dict[str, Any]:
  """Returns the content of a file for images in [-1, 1].

  Args:
    image_size: side, or height and width, in pixels, if `evaluation` has none.
    evaluation: resize and crop.
    channels: number of channels of the images.

  Raises:
    ValueError: if the file cannot store them.
  """
  image_size = evaluation.image_size or positions.as_pair(image_size)
  filter = evaluation.interpolation.removesuffix('_antialias')
  found = {
    'image_processor_type': 'ViTImageProcessor',
    'do_resize': True,
    'size': _height_and_width(image_size),
    'resample': next(k for k, v in _RESAMPLES.items() if v.startswith(filter)),
    'do_rescale': True,
    'rescale_factor': 1 / 255,
    'do_normalize': True,  # To [-1, 1].
    'image_mean': [0.5] * channels,
    'image_std': [0.5] * channels,
  }
  for name, default in (('trim_px', 0), ('bits', 8)):
    if (value := getattr(evaluation, name)) != default:
      raise ValueError(
        f'{FILE} cannot store {name}={value}; export without it.'
      )
  if evaluation.crop == 'resize':
    return found
  precrop = evaluation.precrop_size
  if precrop is None:
    precrop = tuple(round(side * 7 / 6) for side in image_size)
  size = _height_and_width(precrop)
  if evaluation.crop == 'center':
    if precrop[0] != precrop[1]:
      raise ValueError(
        f'{FILE} cannot store a center crop from {precrop[0]}x'
        f'{precrop[1]} px, which is not a square.'
      )
    size = {'shortest_edge': precrop[0]}
  return found | {
    'image_processor_type': 'BitImageProcessor',
    'size': size,
    'do_center_crop': True,
    'crop_size': _height_and_width(image_size),
  }


def _height_and_width(size):
  return dict(zip(('height', 'width'), size, strict=True))
