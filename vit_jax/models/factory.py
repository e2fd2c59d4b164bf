"""Builds models by name."""

import dataclasses
import numbers
from typing import Any

import jax.numpy as jnp

from vit_jax.models import (
  axial,
  axial_resnet,
  hybrid_stem,
  layers,
  positions,
  resnet,
  variants,
  vit,
)

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}

_RESNET_SIZE = [f.name for f in dataclasses.fields(variants.ResNetSize)]
_RESNET_OPTIONS = {'channels', 'dtype', 'head_bias', 'constrain'}
# Accepted for ResNets, too, which always take the mean and have neither GELU
# nor LayerNorm.
_IGNORED_BY_RESNETS = {'pool', 'gelu', 'norm_eps', 'platform'}

_TYPES = {
  bool: bool,
  int: numbers.Integral,
  float: numbers.Real,
  str: str,
}


def create(
  name: str, *, num_classes: int, **options: Any
) -> vit.VisionTransformer | resnet.ResNet:
  """Builds a model by name, such as 'ViT-B/16', 'R50x1' or 'R50+ViT-B/32'.

  All models have a method `grid_shape(image_size)`, which returns the rows and
  columns of their tokens, or raises ValueError for sizes that do not fit.

  Args:
    name: see `variants`.
    num_classes: size of the logits; 0 omits the head.
    **options: attributes of `vit.VisionTransformer`, which documents them, and
      of `variants.ResNetSize`. None stands for the default, or for the value of
      the named size. `dtype` is a key of `DTYPES`; `patch_size` may be a single
      number, and `representation_size` may be 'width'. ResNets always take
      the mean of all tokens, whatever `pool` is; Axial-ViTs take it if `pool`
      is 'token'.

  Raises:
    ValueError: if the name or an option is unknown, or if an option is out of
      range or belongs to a part that the model does not have.
  """
  variant = variants.parse(name)
  options = {k: v for k, v in options.items() if v is not None}
  _check_names_and_types(options)
  if 'dtype' in options:
    options['dtype'] = DTYPES[options['dtype']]
  if options.get('channels', 3) < 1:
    raise ValueError(
      f'channels of a model must be at least 1, got {options["channels"]}.'
    )
  size = variant.resnet
  resized = {k: options.pop(k) for k in _RESNET_SIZE if k in options}
  if size is None:
    _refuse(f'{name} has no ResNet', resized)
  else:
    size = dataclasses.replace(size, **resized)
  shared = {k: v for k, v in options.items() if k in _RESNET_OPTIONS}
  if variant.encoder is None:
    _refuse(
      f'{name} has no transformer',
      {
        k: v
        for k, v in options.items()
        if k not in _RESNET_OPTIONS | _IGNORED_BY_RESNETS
        and v != getattr(vit.VisionTransformer, k, None)
      },
    )
    return resnet.ResNet(
      num_classes=num_classes,
      stage_depths=size.stage_depths,
      width=size.width,
      unit=axial_resnet.Unit if variant.axial else resnet.Unit,
      **shared,
    )
  defaults = {'patch_size': variant.patch_size, **variant.encoder._asdict()}
  options = defaults | options
  options['patch_size'] = positions.as_pair(options['patch_size'])
  if options.get('representation_size') == 'width':
    options['representation_size'] = options['width']
  transformer = vit.VisionTransformer
  if variant.axial:
    transformer = axial.AxialVisionTransformer
    if options.get('pool', 'token') == 'token':
      options['pool'] = 'gap'
  elif size is not None:
    stem = {k: v for k, v in shared.items() if k in ('dtype', 'constrain')}
    options['stem'] = hybrid_stem.HybridStem(
      stage_depths=size.stage_depths, width=size.width, **stem
    )
  model = transformer(num_classes=num_classes, **options)
  if variant.axial and model.prefix:
    _refuse(
      f'{name} has rows and columns of patches only',
      {'class_token': model.class_token, 'registers': model.registers},
    )
  _check_ranges(model)
  return model


def _refuse(absent: str, options: dict[str, Any]) -> None:
  if options:
    given = ', '.join(f'{k}={v!r}' for k, v in options.items())
    raise ValueError(
      f'{absent}, so it cannot use {given}: leave it out, or choose another'
      ' model.'
    )


def _check_names_and_types(options: dict[str, Any]) -> None:
  known = {
    field.name: field
    for module in (vit.VisionTransformer, variants.ResNetSize)
    for field in dataclasses.fields(module)
    if field.name not in ('num_classes', 'stem', 'parent', 'name')
  }
  for name, value in options.items():
    if name not in known:
      raise ValueError(
        f'unknown option {name!r} of a model; known: {", ".join(known)}.'
      )
    field = known[name]
    choices = DTYPES if name == 'dtype' else field.metadata.get('choices')
    if choices and value not in choices:
      raise ValueError(
        f'unknown {name} {value!r}; known: {", ".join(choices)}.'
      )
    is_valid = isinstance(value, _TYPES.get(field.type, object))
    if isinstance(value, bool) and field.type in (int, float):
      is_valid = False  # In Python, bool is a subclass of int.
    if not is_valid:
      raise ValueError(
        f'{name} of a model must be of type {field.type.__name__}, got'
        f' {value!r}.'
      )


def _check_ranges(model: vit.VisionTransformer) -> None:
  """Checks values that would otherwise fail during tracing."""
  for name in variants.TransformerSize._fields:
    if getattr(model, name) < 1:
      raise ValueError(
        f'{name} of a model must be at least 1, got {getattr(model, name)}.'
      )
  layers.head_size(model.width, model.heads)
  positions.check(model.positions, model.positions_at, model.width)
  if model.registers < 0:
    raise ValueError(
      f'registers of a model must be at least 0, got {model.registers}.'
    )
  size = model.representation_size
  if not (size is None or (isinstance(size, int) and size > 0)):
    raise ValueError(
      "representation_size must be a positive number, 'width' or None, got"
      f' {size!r}.'
    )
  for name in ('dropout', 'stochastic_depth'):
    if not 0 <= getattr(model, name) < 1:
      raise ValueError(
        f'{name} must be a rate in [0, 1), got {getattr(model, name)}.'
      )
