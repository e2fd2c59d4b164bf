"""Adapting the first layer of checkpoints to images with other channels.

A model of 1 channel gets the sum of the filters for red, green and blue: a gray
image has the same embedding as its RGB copy. A model of 4 channels, RGB and
alpha, keeps the filters, and those for alpha are zero: any image has the same
embedding as without alpha. From 1 channel to 3, each filter is a third of that
for gray, the inverse of the first rule for gray images.

ResNets and hybrids standardize the filters of their root convolution: a mean of
0 and a standard deviation of 1 over all channels. There, the weights for alpha
are the mean of the filter, which becomes 0. The scale of the responses cannot
be kept. It is the same for all filters from 3 to 4 and from 1 to 3 channels,
and the next group norm cancels it; from 3 to 1, each filter has its own.
"""

from collections.abc import Collection, Mapping

from jaxtyping import Float
import numpy as np

_EMBEDDING, _ROOT = 'embedding/kernel', 'conv_root/kernel'


def first_layer(names: Collection[str]) -> str:
  """Returns the name of the kernel that is applied to images."""
  return _ROOT if _ROOT in names else _EMBEDDING


def adapt(
  weights: Mapping[str, np.ndarray], channels: int
) -> dict[str, np.ndarray]:
  """Returns the kernel of the first layer by name if it has to change.

  Args:
    weights: arrays by official names.
    channels: channels of the model's images.

  Raises:
    ValueError: if there is no rule for these channels.
  """
  name = first_layer(weights)
  kernel = weights.get(name)
  if kernel is None or kernel.ndim != 4 or kernel.shape[2] == channels:
    return {}
  rule = _RULES.get((kernel.shape[2], channels))
  if rule is None:
    known = ', '.join(f'{old} to {new}' for old, new in _RULES)
    raise ValueError(
      f'it is for images of {kernel.shape[2]} channels, the model for'
      f' {channels}; weights can be adapted from {known}. Set data.channels='
      f'{kernel.shape[2]}.'
    )
  adapted = rule(kernel.astype(np.float64), name == _ROOT)
  return {name: adapted.astype(kernel.dtype)}


Kernel = Float[np.ndarray, 'h w c d']


def _to_gray(kernel: Kernel, standardized: bool) -> Kernel:
  del standardized
  return kernel.sum(axis=2, keepdims=True)


def _add_alpha(kernel: Kernel, standardized: bool) -> Kernel:
  alpha = np.zeros_like(kernel[:, :, :1])
  if standardized:
    alpha += kernel.mean(axis=(0, 1, 2))
  return np.concatenate([kernel, alpha], axis=2)


def _to_colour(kernel: Kernel, standardized: bool) -> Kernel:
  del standardized
  return kernel.repeat(3, axis=2) / 3


_RULES = {(3, 1): _to_gray, (3, 4): _add_alpha, (1, 3): _to_colour}
