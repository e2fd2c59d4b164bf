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

Channels = tuple[float, ...]


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
  numbers = tuple(values) if many else (values,) * len(NONE)
  low = _SMALLEST_STD if name.endswith('std') else -_LARGEST
  is_valid = len(numbers) in (1, 3, 4) and all(
    isinstance(x, (int, float)) and low * scale <= x <= _LARGEST * scale
    for x in numbers
  )
  if not is_valid:
    raise ValueError(
      f'{name}={values!r}; expected one number, or one for each of the 1, 3 or'
      f' 4 channels{", all above 0" * name.endswith("std")}.'
    )
  return tuple(x / scale for x in numbers)


def is_none(mean: Channels, std: Channels) -> bool:
  """Returns whether images stay in [-1, 1]."""
  return {*mean, *std} == {*NONE}


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

  Raises:
    ValueError: if there are other numbers of them than of channels.
  """
  if is_none(mean, std):
    return dict(params)
  channels = params['embedding']['kernel'].shape[2]
  mean, std = (_per_channel(x, channels) for x in (mean, std))
  scale, shift = 1 / (2 * std), (1 - 2 * mean) / (2 * std)
  layer = params['embedding']
  kernel = np.asarray(layer['kernel'], np.float64)  # (p, p, 3, d).
  bias = layer.get('bias', 0) + np.einsum('hwcd,c->d', kernel, shift)
  folded = {'kernel': kernel * scale[:, None], 'bias': bias}
  return {
    **params,
    'embedding': {name: x.astype(np.float32) for name, x in folded.items()},
  }


def _per_channel(values, channels):
  if len(set(values)) == 1:  # For any number of channels.
    values = values[:1] * channels
  if len(values) != channels:
    raise ValueError(
      f'the images have {channels} channels, but their mean or standard'
      f' deviation is recorded for {len(values)}, {values}; correct the file'
      ' that specifies it.'
    )
  return np.float64(values)
