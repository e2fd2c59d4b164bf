"""The convolutions before the patches of a hybrid (3.1, Hybrid Architecture).

This network is not `resnet`. It is a ResNet of the first kind, He et al.
(2016), arXiv 1512.03385: each convolution, that of the shortcut too, is
followed by a norm, and ReLU comes after the sum. Convolutions pad as
TensorFlow's 'SAME' does, and both epsilons differ. Parameters carry the names
and shapes of the official hybrid checkpoints.
"""

import functools

import flax.linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models import convolutions, layers


def standardize(kernel: convolutions.Kernel) -> convolutions.Kernel:
  """(kernel - mean) / (std + 1e-5) of each output channel."""
  axes = (0, 1, 2)
  return (kernel - kernel.mean(axes)) / (kernel.std(axes) + 1e-5)


class Unit(nn.Module):
  """A bottleneck with a residual: 1x1, 3x3 and 1x1 convolutions.

  Attributes:
    width: channels of the bottleneck; the result has four times as many.
    stride: of the 3x3 convolution.
    dtype: type of the activations.
  """

  width: int
  stride: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 d']:
    """Transforms a batch of feature maps."""
    conv, norm = _layers(self.dtype)
    width, stride = self.width, self.stride
    shortcut = x
    if x.shape[-1] != 4 * width or stride != 1:
      shortcut = conv(4 * width, 1, stride=stride, name='conv_proj')(x)
      shortcut = norm(name='gn_proj')(shortcut)
    y = nn.relu(norm(name='gn1')(conv(width, 1, name='conv1')(x)))
    y = conv(width, 3, stride=stride, name='conv2')(y)
    y = nn.relu(norm(name='gn2')(y))
    y = conv(4 * width, 1, name='conv3')(y)
    # From zero: every unit of an untrained stem passes its shortcut on.
    y = norm(scale_init=nn.initializers.zeros, name='gn3')(y)
    return nn.relu(shortcut + y)


class HybridStem(nn.Module):
  """Root and stages, which turn images into the map that patches are cut from.

  Attributes:
    stage_depths: residual units of each stage; may be empty.
    width: channels of the root and of the first stage's bottlenecks.
    dtype: type of the activations. Parameters, the standardisation of kernels
      and the statistics of norms are float32 always.
    constrain: applied to what the residual units return.
  """

  stage_depths: tuple[int, ...]
  width: int
  dtype: DTypeLike
  constrain: layers.Constrain = layers.unconstrained

  @property
  def total_stride(self) -> int:
    """Pixels from one position of the map to the next."""
    return convolutions.total_stride(self.stage_depths)

  @nn.compact
  def __call__(
    self, images: Float[Array, 'b h w 3']
  ) -> Float[Array, 'b h2 w2 c']:
    """Maps images to ceil(h / total_stride) by ceil(w / total_stride)."""
    conv, norm = _layers(self.dtype)
    x = conv(self.width, 7, stride=2, name='conv_root')(images)
    x = nn.relu(norm(name='gn_root')(x))
    x = nn.max_pool(x, (3, 3), strides=(2, 2), padding='SAME')
    unit = functools.partial(Unit, dtype=self.dtype)
    return convolutions.stages(
      x, unit, self.stage_depths, self.width, self.constrain
    )


def _layers(dtype):
  conv = functools.partial(
    convolutions.StdConv, standardize=standardize, dtype=dtype, padding='SAME'
  )
  norm = functools.partial(
    nn.GroupNorm, num_groups=32, epsilon=1e-6, dtype=dtype
  )
  return conv, norm
