"""Principal components of the filters that images meet first (Figure 7 left).

"The components resemble plausible basis functions for a low-dimensional
representation of the fine structure within each patch" (section 4.5).
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
import numpy as np

from vit_jax.models import resnet


def rgb_filters(params: Mapping[str, Any]) -> Float[np.ndarray, 'h w 3 d']:
  """The filters that a model's first layer looks at pixels with.

  Those of the patch projection; or, of ResNets and hybrids, those of the root
  convolution, standardised as they are in use.
  """
  if 'conv_root' in params:
    kernel = resnet.standardize(params['conv_root']['kernel'])
  else:
    kernel = params['embedding']['kernel']
  return np.asarray(kernel, np.float32)


def principal_components(
  filters: Float[np.ndarray, 'h w c d'],
) -> tuple[Float[np.ndarray, 'm h w c'], Float[np.ndarray, ' m']]:
  """The directions in which the d filters differ from their mean.

  Args:
    filters: d filters of h w c weights each.

  Returns:
    The m = min(d, h w c) principal components, orthonormal, each with the sign
    that makes its largest weight positive; and the share of the variance that
    each explains, falling.
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
  """How alike neighbouring weights of each filter are.

  The mean product of two weights of one channel that lie beside or below each
  other, over the mean square of all such: 1 for constant filters, 0 on average
  for independent weights, negative for alternating ones.
  """
  x = np.asarray(components, np.float64)
  products = squares = 0
  for axis in (1, 2):
    one = np.delete(x, -1, axis)
    other = np.delete(x, 0, axis)
    products = products + np.sum(one * other, axis=(1, 2, 3))
    squares = squares + np.sum(one**2 + other**2, axis=(1, 2, 3)) / 2
  return products / squares
