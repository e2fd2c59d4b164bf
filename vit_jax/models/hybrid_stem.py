"""The convolutional stem of a hybrid (section 3.1, Hybrid Architecture).

Unlike `resnet`, it is an original ResNet, He et al. (2016), arXiv 1512.03385: a
norm follows each convolution, including that of the shortcut, and ReLU follows
the sum. Convolutions pad as TensorFlow's 'SAME' does, and both epsilons differ.
Parameters have the names and shapes of the official hybrid checkpoints.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models import convolutions, layers


def standardize(kernel: convolutions.Kernel) -> convolutions.Kernel:
  """Returns (kernel - mean) / (std + 1e-5) per output channel."""
  axes = (0, 1, 2)
  return (kernel - kernel.mean(axes)) / (kernel.std(axes) + 1e-5)


class Unit(nn.Module):
  """A bottleneck with a residual: 1x1, 3x3 and 1x1 convolutions.

  Attributes:
    width: channels of the bottleneck; the result has four times as many.
    stride: stride of the 3x3 convolution.
    dtype: type of the activations.
    constrain: applied to the results of convolutions.
  """

  width: int
  stride: int
  dtype: DTypeLike
  constrain: layers.Constrain

  @nn.compact
  def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 d']:
    """Transforms a batch of feature maps."""
    conv, norm = _layers(self.dtype, self.constrain)
    width, stride = self.width, self.stride
    shortcut = x
    if x.shape[-1] != 4 * width or stride != 1:
      shortcut = conv(4 * width, 1, stride=stride, name='conv_proj')(x)
      shortcut = norm(name='gn_proj')(shortcut)
    y = nn.relu(norm(name='gn1')(conv(width, 1, name='conv1')(x)))
    y = conv(width, 3, stride=stride, name='conv2')(y)
    y = nn.relu(norm(name='gn2')(y))
    y = conv(4 * width, 1, name='conv3')(y)
    # Starts at zero: every unit of an untrained stem returns its shortcut.
    y = norm(scale_init=nn.initializers.zeros, name='gn3')(y)
    return nn.relu(shortcut + y)


class HybridStem(nn.Module):
  """Root and stages, which map images to the maps that are cut into patches.

  Attributes:
    stage_depths: residual units per stage; may be empty.
    width: channels of the root and of the first stage's bottlenecks.
    dtype: type of the activations. Parameters, the standardization of kernels
      and the statistics of norms are always float32.
    constrain: applied to the results of convolutions.
  """

  stage_depths: tuple[int, ...]
  width: int
  dtype: DTypeLike = jnp.float32
  constrain: layers.Constrain = layers.unconstrained

  @property
  def total_stride(self) -> int:
    """Distance in pixels between positions of the map."""
    return convolutions.total_stride(self.stage_depths)

  @nn.compact
  def __call__(
    self, images: Float[Array, 'b h w c']
  ) -> Float[Array, 'b h2 w2 d']:
    """Returns maps of ceil(h / total_stride) by ceil(w / total_stride)."""
    conv, norm = _layers(self.dtype, self.constrain)
    x = conv(self.width, 7, stride=2, name='conv_root')(images)
    x = nn.relu(norm(name='gn_root')(x))
    x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding='SAME')
    unit = functools.partial(Unit, dtype=self.dtype, constrain=self.constrain)
    return convolutions.stages(x, unit, self.stage_depths, self.width)[-1]


def _layers(dtype, constrain):
  conv = functools.partial(
    convolutions.StdConv,
    standardize=standardize,
    dtype=dtype,
    constrain=constrain,
    padding='SAME',
  )
  norm = functools.partial(
    nn.GroupNorm, num_groups=32, epsilon=1e-6, dtype=dtype
  )
  return conv, norm
