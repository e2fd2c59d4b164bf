"""Layers of the residual networks, `resnet` and `hybrid_stem`."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models import layers

Kernel = Float[Array, 'h w c d']


class StdConv(nn.Module):
  """A convolution without bias whose kernel is standardized at every use.

  Weight Standardization, Qiao et al. (2019), arXiv 1903.10520.

  Attributes:
    features: output channels.
    side: height and width of the kernel.
    standardize: subtracts the mean of each output channel's weights and divides
      by their standard deviation, in float32.
    dtype: type of the product; the kernel stays float32.
    constrain: applied to the result.
    stride: input positions from one output to the next.
    padding: zeros on each side of the image; or 'SAME', which turns a side of
      h into ceil(h / stride) and puts an odd zero at the bottom and right.
  """

  features: int
  side: int
  standardize: Callable[[Kernel], Kernel]
  dtype: DTypeLike
  constrain: layers.Constrain
  stride: int = 1
  padding: int | str = 'SAME'

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 d']:
    """Convolves a batch of images."""
    padding = self.padding
    kernel = self.param(
      'kernel',
      nn.initializers.lecun_normal(),
      (self.side, self.side, x.shape[-1], self.features),
    )
    out = jax.lax.conv_general_dilated(
      x.astype(self.dtype),
      self.standardize(kernel).astype(self.dtype),
      window_strides=(self.stride,) * 2,
      padding=padding if padding == 'SAME' else [(padding, padding)] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    return self.constrain(out)


class Stage(nn.Module):
  """A sequence of residual units, `unit1` to `unit{depth}`.

  Attributes:
    unit: makes a unit when called as unit(width, stride, name=...).
    depth: number of units.
    width: channels of the units' bottlenecks.
    stride: stride of the first unit.
  """

  unit: Callable[..., nn.Module]
  depth: int
  width: int
  stride: int

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 d']:
    """Transforms a batch of feature maps."""
    for i in range(self.depth):
      stride = self.stride if i == 0 else 1
      x = self.unit(self.width, stride, name=f'unit{i + 1}')(x)
    return x


def stages(
  x: Float[Array, 'b h w c'],
  unit: Callable[..., nn.Module],
  stage_depths: Sequence[int],
  width: int,
) -> list[Float[Array, 'b h2 w2 d']]:
  """Applies the stages of a ResNet, `block1` and so on, in the caller's scope.

  Every stage except the first halves the map and doubles the width.

  Args:
    x: feature maps.
    unit: same as in `Stage`.
    stage_depths: number of units per stage.
    width: channels of the bottlenecks in the first stage.

  Returns:
    The given maps, and those after each stage.
  """
  maps = [x]
  for i, depth in enumerate(stage_depths):
    stride = 1 if i == 0 else 2
    stage = Stage(unit, depth, width * 2**i, stride, name=f'block{i + 1}')
    maps.append(stage(maps[-1]))
  return maps


def total_stride(stage_depths: Sequence[int]) -> int:
  """Returns the distance in pixels between adjacent positions of the last map.

  The root divides each side of the image by four, every stage except the first
  by two; odd sides are rounded up.
  """
  return 4 * 2 ** max(len(stage_depths) - 1, 0)
