"""What the residual networks, `resnet` and `hybrid_stem`, have in common."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models import layers

Kernel = Float[Array, 'h w c d']


class StdConv(nn.Module):
  """A convolution without bias that standardises its kernel at every use.

  Weight Standardization, Qiao et al. (2019), arXiv 1903.10520.

  Attributes:
    features: output channels.
    side: height and width of the kernel.
    standardize: subtracts the mean of each output channel's weights and divides
      by their standard deviation, in float32.
    dtype: type of the product; the kernel stays float32.
    stride: input positions from one output to the next.
    padding: zeros on each side of the image, or 'SAME': a side of h becomes
      ceil(h / stride), an odd zero goes to the bottom and right.
  """

  features: int
  side: int
  standardize: Callable[[Kernel], Kernel]
  dtype: DTypeLike
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
    return jax.lax.conv_general_dilated(
      x.astype(self.dtype),
      self.standardize(kernel).astype(self.dtype),
      window_strides=(self.stride,) * 2,
      padding=padding if padding == 'SAME' else [(padding, padding)] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


class Stage(nn.Module):
  """Residual units that follow each other, `unit1` to `unit{depth}`.

  Attributes:
    unit: makes a unit from (width, stride, name=...).
    depth: number of units.
    width: channels of the units' bottlenecks.
    stride: of the first unit.
    constrain: applied to what the units return.
  """

  unit: Callable[..., nn.Module]
  depth: int
  width: int
  stride: int
  constrain: layers.Constrain

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 d']:
    """Transforms a batch of feature maps."""
    for i in range(self.depth):
      stride = self.stride if i == 0 else 1
      x = self.unit(self.width, stride, name=f'unit{i + 1}')(x)
      x = self.constrain(x)
    return x


def stages(
  x: Float[Array, 'b h w c'],
  unit: Callable[..., nn.Module],
  stage_depths: Sequence[int],
  width: int,
  constrain: layers.Constrain,
) -> Float[Array, 'b h2 w2 d']:
  """Applies the stages of a ResNet, in the caller's scope `block1`, `block2`...

  Every stage but the first halves the map and doubles the width of the
  bottlenecks, which is `width` in the first. `unit` and `constrain` as of
  `Stage`.
  """
  for i, depth in enumerate(stage_depths):
    stride = 1 if i == 0 else 2
    x = Stage(
      unit, depth, width * 2**i, stride, constrain, name=f'block{i + 1}'
    )(x)
  return x


def total_stride(stage_depths: Sequence[int]) -> int:
  """Returns the pixels from one position of the last map to the next.

  The root quarters the image, every stage but the first halves the map; sides
  that cannot be halved are rounded up.
  """
  return 4 * 2 ** max(len(stage_depths) - 1, 0)
