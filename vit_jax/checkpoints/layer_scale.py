"""Folds LayerScale into the layers before it.

LayerScale (Touvron et al. (2021), arXiv 2103.17239) multiplies the output of
the attention and of the MLP of each block by learned vectors, before they are
added to the tokens. DINOv2 and DeiT III use it. Both outputs come from a linear
layer, so it folds exactly into the parameters of a plain Vision Transformer.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax.checkpoints import array_check
from vit_jax.checkpoints.formats import official

# The layer that each LayerScale of a block multiplies. The formats that have
# LayerScale read it under these names.
_SCALED = {
  'LayerScale_0/scale': 'MultiHeadDotProductAttention_0/out',
  'LayerScale_1/scale': 'MlpBlock_0/Dense_1',
}


def is_in(params: Mapping[str, Any]) -> bool:
  """Returns whether there is LayerScale in parameters."""
  return any(name.endswith(tuple(_SCALED)) for name in official.flatten(params))


def fold(params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns equivalent float32 parameters without LayerScale.

  Args:
    params: a ViT's parameters under official names.

  Raises:
    NonFiniteError: if a product is infinite in float32.
  """
  if not is_in(params):
    return dict(params)
  flat = official.flatten(params)
  for name in list(flat):
    for suffix, layer in _SCALED.items():
      if name.endswith(suffix):
        scale = flat.pop(name).astype(np.float64)  # (d,)
        _multiply(flat, name.removesuffix(suffix) + layer, scale)
  return official.unflatten(flat)


def _multiply(flat, layer, scale):
  """Multiplies the outputs of a layer, the last axis of its parameters."""
  for name in (f'{layer}/kernel', f'{layer}/bias'):
    if name in flat:
      product = flat[name] * scale
      array_check.check(name, product)
      flat[name] = product.astype(np.float32)
