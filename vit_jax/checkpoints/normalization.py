"""Folds the normalization of images into the patch projection.

Libraries for PyTorch subtract a mean per channel from images in [0, 1] and
divide by a standard deviation, both stored next to the weights. Here, images
are in [-1, 1], which corresponds to a mean and a standard deviation of 0.5.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_SMALLEST_STD, _LARGEST = 1e-6, 1e6
NONE = (0.5, 0.5, 0.5)  # As mean and as std: images stay in [-1, 1].

Channels = tuple[float, float, float]


def check(name: str, values: Any, *, scale: float = 1) -> Channels:
  """Checks a mean or standard deviation; returns one number per channel.

  Args:
    name: name of the setting, for messages; that of a standard deviation ends
      in 'std'.
    values: one number, or one per channel.
    scale: what the values are divided by.

  Raises:
    ValueError: if the values are not numbers, or so large or small that they
      cannot be those of images.
  """
  many = isinstance(values, Sequence) and not isinstance(values, str)
  numbers = tuple(values) if many else (values,) * 3
  low = _SMALLEST_STD if name.endswith('std') else -_LARGEST
  is_valid = len(numbers) == 3 and all(
    isinstance(x, (int, float)) and low * scale <= x <= _LARGEST * scale
    for x in numbers
  )
  if not is_valid:
    raise ValueError(
      f'{name}={values!r}; expected one number, or one for each of the three'
      f' channels{", all above 0" * name.endswith("std")}.'
    )
  return tuple(x / scale for x in numbers)


def fold(
  params: Mapping[str, Any], mean: Channels, std: Channels
) -> dict[str, Any]:
  """Returns equivalent parameters for images in [-1, 1].

  With x = 2 y - 1 for a pixel y in [0, 1],

    (y - mean) / std = x / (2 std) + (1 - 2 mean) / (2 std),

  so the kernel W of the projection becomes W / (2 std), and its bias grows by
  the sum of W (1 - 2 mean) / (2 std) over the patch. This is exact because no
  patch is padded: every output sums over a whole patch.

  Args:
    params: a ViT's parameters under official names.
    mean: of images in [0, 1].
    std: of images in [0, 1].
  """
  if mean == NONE and std == NONE:
    return dict(params)
  mean, std = np.float64(mean), np.float64(std)
  scale, shift = 1 / (2 * std), (1 - 2 * mean) / (2 * std)
  layer = params['embedding']
  kernel = np.asarray(layer['kernel'], np.float64)  # (p, p, 3, d).
  bias = layer.get('bias', 0) + np.einsum('hwcd,c->d', kernel, shift)
  folded = {'kernel': kernel * scale[:, None], 'bias': bias}
  return {
    **params,
    'embedding': {name: x.astype(np.float32) for name, x in folded.items()},
  }
