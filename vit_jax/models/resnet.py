"""The paper's baseline, "ResNet (BiT)" (section 4.1, Model Variants).

BiT, Kolesnikov et al. (2020), arXiv 1912.11370, is a pre-activation ResNet, He
et al. (2016), arXiv 1603.05027, with group norms, standardized convolutions and
symmetric zero padding, also of the max-pool. `hybrid_stem` differs in the order
of layers, in epsilons and in padding.

The official BiT files use other names for the parameters:

- `conv_root/kernel`: `resnet/root_block/standardized_conv2d/kernel`.
- `block{b}/unit{u}/`: `resnet/block{b}/unit{u}/`, u in two digits (`unit01`).
  In a unit, i = 1, 2, 3 is the letter a, b, c: `gn{i}`: `a/group_norm`;
  `conv{i}`: `a/standardized_conv2d`; `conv_proj`: `a/proj/standardized_conv2d`.
- `gn_final`: `resnet/group_norm`.
- `scale` and `bias` of norms: `gamma` and `beta`.
- `head`: `resnet/head/conv2d`, with a kernel of shape (1, 1, d, k).
"""

from collections.abc import Callable, Collection
import functools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models import convolutions, layers, positions, stacking


def standardize(kernel: convolutions.Kernel) -> convolutions.Kernel:
  """Returns (kernel - mean) / sqrt(variance + 1e-10) per output channel."""
  axes = (0, 1, 2)
  return (kernel - kernel.mean(axes)) / jnp.sqrt(kernel.var(axes) + 1e-10)


class Unit(nn.Module):
  """A pre-activation bottleneck: norm, ReLU and convolution, three times.

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
    conv, norm = _conv(self.dtype, self.constrain), group_norm(self.dtype)
    width, stride = self.width, self.stride
    y = nn.relu(norm(name='gn1')(x))
    shortcut = x
    if x.shape[-1] != 4 * width or stride != 1:
      shortcut = conv(4 * width, 1, stride=stride, name='conv_proj')(y)
    y = conv(width, 1, name='conv1')(y)
    y = nn.relu(norm(name='gn2')(y))
    y = nn.relu(norm(name='gn3')(self.mix(y)))
    return shortcut + conv(4 * width, 1, name='conv3')(y)

  def mix(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c']:
    """Mixes positions of a map, and divides its sides by the stride."""
    return _conv(self.dtype, self.constrain)(
      self.width, 3, stride=self.stride, padding=1, name='conv2'
    )(x)


class ResNet(nn.Module):
  """Maps images to logits and named features; `create` builds it by name.

  Attributes:
    num_classes: size of the logits; 0 omits the head.
    stage_depths: residual units per stage.
    width: channels of the root and of the first stage's bottlenecks.
    channels: channels of images.
    dtype: type of the activations. Parameters, the standardization of kernels,
      the statistics of norms and everything from the final norm to the logits
      are always float32.
    head_bias: initial bias of the head.
    constrain: applied to the results of convolutions and to the logits.
    unit: makes a residual unit from the attributes of `Unit`.
  """

  num_classes: int
  stage_depths: tuple[int, ...]
  width: int
  channels: int = 3
  dtype: DTypeLike = jnp.float32
  head_bias: float = 0.0
  constrain: layers.Constrain = layers.unconstrained
  unit: Callable[..., nn.Module] = Unit

  @nn.nowrap
  def grid_shape(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the rows and columns of the last map, for any size in pixels.

    Raises:
      ValueError: if the size is not a positive number or a pair of them.
    """
    stride = convolutions.total_stride(self.stage_depths)
    return positions.grid_shape(image_size, 1, stride)

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'b h w c'],
    *,
    train: bool = False,
    blocks: Collection[int] = (),
    tokens: bool = True,
  ) -> tuple[Float[Array, 'b k'] | None, dict[str, Float[Array, 'b ...']]]:
    """Computes logits and features.

    Args:
      images: in [-1, 1], of any height and width.
      train: no effect, as there is no dropout.
      blocks: indices of the stages whose outputs to return; static.
      tokens: no effect, as pooling uses the whole last map.

    Returns:
      Logits, None without classes, and the features that all models have:
      'patches' (b, n, d), the input of the first stage, at a quarter of the
      image's sides; 'encoded' (b, n, d), the last map, after norm and ReLU;
      'pooled' (b, d), its mean; 'pre_logits', the input of the linear head,
      which is 'pooled' here. If any stages are chosen, 'blocks' holds their
      maps, each as (b, n, d) with its own n and d; see
      `stacking.choose`.

    Raises:
      ValueError: if the images are not floats of shape (b, h, w, channels), or
        there is no such stage.
    """
    del train, tokens
    layers.check_images(images, self.channels)
    x = _conv(self.dtype, self.constrain)(
      self.width, 7, stride=2, padding=3, name='conv_root'
    )(images)
    # No ReLU precedes it, so padding with zeros differs from that with -inf.
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2))
    patches = _tokens(x)
    unit = functools.partial(
      self.unit, dtype=self.dtype, constrain=self.constrain
    )
    maps = convolutions.stages(x, unit, self.stage_depths, self.width)
    norm = group_norm(jnp.float32)(name='gn_final')
    encoded = _tokens(nn.relu(norm(maps[-1])))
    pooled = jnp.mean(encoded, axis=1)
    logits = layers.head(
      pooled, self.num_classes, self.head_bias, self.constrain
    )
    return logits, {
      'patches': patches,
      'encoded': encoded,
      'pooled': pooled,
      'pre_logits': pooled,
    } | stacking.choose([_tokens(x) for x in maps[1:]], blocks)


def _conv(dtype, constrain):
  return functools.partial(
    convolutions.StdConv,
    standardize=standardize,
    dtype=dtype,
    constrain=constrain,
    padding=0,
  )


def group_norm(dtype: DTypeLike) -> Callable[..., nn.Module]:
  """Returns a function from `name` to a norm over groups of channels."""
  return functools.partial(
    nn.GroupNorm,
    num_groups=32,
    epsilon=1e-5,
    dtype=dtype,
    use_fast_variance=False,  # Mean of squared differences, as in BiT.
  )


def _tokens(x):
  batch, height, width, channels = x.shape
  return x.reshape(batch, height * width, channels)
