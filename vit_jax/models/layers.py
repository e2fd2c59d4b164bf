"""Parts that models share: options, dropout, the head, checks of images."""

from collections.abc import Callable, Iterable
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# Sets the sharding of activations, whose first axis is the batch.
Constrain = Callable[[Array], Array]

DropoutKey = Key[Array, ''] | None  # None for no dropout.
# Of s branches and b examples; None for no stochastic depth.
BranchFactors = Float[Array, 's b'] | None

GELUS = {
  'tanh': functools.partial(nn.gelu, approximate=True),  # In official code.
  'erf': functools.partial(nn.gelu, approximate=False),  # In PyTorch.
}


def one_of(choices: Iterable[str], default: str) -> Any:
  """Declares a module attribute that takes one of the choices."""
  return dataclasses.field(default=default, metadata={'choices': (*choices,)})


def unconstrained(x: Float[Array, 'b ...']) -> Float[Array, 'b ...']:
  """Returns x, leaving its sharding to the compiler."""
  return x


def dropout(
  x: Float[Array, '...'], rate: float, key: DropoutKey
) -> Float[Array, '...']:
  """Zeroes values of x with probability `rate`; scales others to keep the mean.

  Without a key, as in evaluation, returns x.
  """
  if key is None:
    return x
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def dropout_keys(
  key: Key[Array, ''], depth: int
) -> tuple[Key[Array, 'l'], Key[Array, '']]:
  """Returns a key for each layer, and another one.

  Masks are the same whether layers run unrolled or as a scan.
  """
  fold_in = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
  keys = fold_in(key, jnp.arange(depth + 1))
  return keys[:-1], keys[-1]


def split_key(key: DropoutKey) -> tuple[DropoutKey, DropoutKey]:
  """Splits a dropout key into two; None into two Nones."""
  return (None, None) if key is None else tuple(jax.random.split(key))


def branch_factors(
  key: Key[Array, ''], rate: float, shape: tuple[int, int, int]
) -> Float[Array, 'l s b']:
  """Draws by how much residual branches are multiplied in stochastic depth.

  Every branch of every example is dropped with a probability that increases
  linearly from 0 in the first block to `rate` in the last, as in Steiner et al.
  (2021), arXiv 2106.10270. Others are scaled to keep the mean.

  Args:
    key: determines the draws.
    rate: in [0, 1).
    shape: l blocks, s branches of a block, b examples.

  Returns:
    0, or 1 / (1 - probability), in float32.
  """
  depth = shape[0]
  keep = 1 - rate * jnp.arange(depth)[:, None, None] / max(depth - 1, 1)
  return jax.random.bernoulli(key, keep, shape) / keep


def scale_branch(
  y: Float[Array, 'b n d'], factors: BranchFactors, branch: int
) -> Float[Array, 'b n d']:
  """Multiplies each example by its factor; without factors, returns y."""
  if factors is None:
    return y
  return (y * factors[branch, :, None, None]).astype(y.dtype)


def head_size(width: int, heads: int) -> int:
  """Returns the number of dimensions of one attention head.

  Raises:
    ValueError: if the width is not a multiple of the number of heads.
  """
  if width % heads:
    raise ValueError(
      f'a width of {width} cannot be divided among {heads} attention heads:'
      ' width must be a multiple of heads; use a width of'
      f' {max(round(width / heads), 1) * heads}, or another number of heads.'
    )
  return width // heads


def head(
  x: Float[Array, 'b d'], num_classes: int, bias: float, constrain: Constrain
) -> Float[Array, 'b k'] | None:
  """Computes logits with a linear layer, `head` in the caller's scope.

  Args:
    x: representations of images.
    num_classes: k; 0 returns None.
    bias: initial value of the bias; the kernel starts at zero (section 3.2).
    constrain: applied to the logits.
  """
  if not num_classes:
    return None
  dense = nn.Dense(
    num_classes,
    kernel_init=nn.initializers.zeros,
    bias_init=nn.initializers.constant(bias),
    name='head',
  )
  return constrain(dense(x))


def check_images(images: Array, channels: int) -> None:
  """Checks the type and shape of a batch of images.

  Raises:
    ValueError: if the images are not floats of shape (b, h, w, channels).
  """
  is_float = jnp.issubdtype(images.dtype, jnp.floating)
  if not is_float or images.ndim != 4 or images.shape[-1] != channels:
    advice = 'repeat grey images over three channels, and ' * (channels == 3)
    raise ValueError(
      f'images must be floats in [-1, 1] of shape (b, h, w, {channels}), got'
      f' {images.dtype} of shape {images.shape}; {advice}convert bytes with'
      ' x / 127.5 - 1.'
    )
