"""Principal components of the filters of the first layer (Figure 7, left).

"The components resemble plausible basis functions for a low-dimensional
representation of the fine structure within each patch" (section 4.5).
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
import numpy as np

from vit_jax.models import hybrid_stem, resnet


def rgb_filters(params: Mapping[str, Any]) -> Float[np.ndarray, 'h w c d']:
  """Returns the filters of a model's first layer.

  These are the filters of the patch embedding or, for ResNets and hybrids, the
  standardized filters of the root convolution.
  """
  if 'conv_root' in params:
    is_hybrid = 'embedding' in params
    standardize = (hybrid_stem if is_hybrid else resnet).standardize
    kernel = standardize(params['conv_root']['kernel'])
  else:
    kernel = params['embedding']['kernel']
  return np.asarray(kernel, np.float32)


def principal_components(
  filters: Float[np.ndarray, 'h w c d'],
) -> tuple[Float[np.ndarray, 'm h w c'], Float[np.ndarray, ' m']]:
  """Computes the principal components of d filters.

  Returns:
    The m = min(d, h w c) orthonormal components, signed such that the
    weight of largest magnitude is positive, and the share of the variance
    explained by each, in descending order.
  """
  *shape, d = filters.shape
  samples = filters.reshape(-1, d).T.astype(np.float64)
  samples = samples - samples.mean(axis=0)
  _, scales, components = np.linalg.svd(samples, full_matrices=False)
  largest = np.abs(components).argmax(axis=1)[:, None]
  components *= np.sign(np.take_along_axis(components, largest, axis=1))
  shares = scales**2 / max(np.sum(scales**2), np.finfo(np.float64).tiny)
  return components.reshape(-1, *shape), shares


def smoothness(
  components: Float[np.ndarray, 'm h w c'],
) -> Float[np.ndarray, ' m']:
  """Returns the correlation of neighbouring weights of each filter.

  The mean product of horizontally or vertically adjacent weights of a channel,
  divided by their mean square: 1 for constant filters, 0 on average for
  independent weights, negative for alternating ones.
  """
  x = np.asarray(components, np.float64)
  products = squares = 0
  for axis in (1, 2):
    one, other = np.delete(x, -1, axis), np.delete(x, 0, axis)
    products = products + np.sum(one * other, axis=(1, 2, 3))
    squares = squares + np.sum(one**2 + other**2, axis=(1, 2, 3)) / 2
  return products / squares
