"""Layers that several networks share."""

from collections.abc import Callable
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

# The official JAX code uses the tanh approximation, PyTorch the exact form.
GELUS = {
  'tanh': functools.partial(nn.gelu, approximate=True),
  'erf': functools.partial(nn.gelu, approximate=False),
}

# Says where the devices are to keep activations, which come first by image.
Constrain = Callable[[Array], Array]


def unconstrained(x: Float[Array, 'b ...']) -> Float[Array, 'b ...']:
  """Leaves it to the compiler where x is kept."""
  return x


def dropout(
  x: Float[Array, '...'], rate: float, key: Key[Array, ''] | None
) -> Float[Array, '...']:
  """Zeroes a share `rate` in [0, 1) of x and scales the rest to keep the mean.

  Without a key, as in evaluation, x comes back as it is.
  """
  if key is None:
    return x
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


def split_key(
  key: Key[Array, ''] | None, num: int
) -> tuple[Key[Array, ''] | None, ...]:
  """Splits a dropout key into `num` keys; no key gives that many Nones."""
  return (None,) * num if key is None else tuple(jax.random.split(key, num))


def dot_general(platform: str) -> Callable[..., Array]:
  """What dense layers multiply with, for Flax's argument of that name.

  Args:
    platform: of the devices, as of `platforms.of`.
  """
  return _product_of_matrices if platform == 'cpu' else jax.lax.dot_general


def _product_of_matrices(x, kernel, dimension_numbers, precision=None):
  """Of all tokens of all images at once.

  XLA for CPU transposes and copies where products for the backward pass have
  more axes than two. For a TPU, which pads the last but one axis to a multiple
  of 8, it is this reshape that is a copy.

  Args:
    x: (..., *inner).
    kernel: (*inner, *outer).
    dimension_numbers: which name the last axes of x and the first of kernel.
    precision: as of `jax.lax.dot_general`.
  """
  (x_axes, _), _ = dimension_numbers
  inner = math.prod(kernel.shape[: len(x_axes)])
  out = jnp.dot(
    x.reshape(-1, inner), kernel.reshape(inner, -1), precision=precision
  )
  lead, outer = x.shape[: -len(x_axes)], kernel.shape[len(x_axes) :]
  return out.reshape(lead + outer)


class MlpBlock(nn.Module):
  """Two dense layers with a GELU between them, each followed by dropout.

  Section 3.1; dropout as in Appendix B.1.

  Attributes:
    hidden_dim: size of the hidden layer.
    dropout: rate of both dropouts.
    gelu: a key of `GELUS`.
    dtype: type of the products; parameters stay float32.
    platform: as of `dot_general`.
  """

  hidden_dim: int
  dropout: float
  gelu: str
  dtype: DTypeLike
  platform: str = ''

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b n d'], dropout_key: Key[Array, ''] | None
  ) -> Float[Array, 'b n d']:
    """Transforms every token on its own."""
    dense = functools.partial(
      nn.Dense,
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
      bias_init=nn.initializers.normal(1e-6),
      dot_general=dot_general(self.platform),
    )
    hidden_key, out_key = split_key(dropout_key, 2)
    # Kept for the backward pass is its input alone: on CPU, where a tanh is no
    # more work than to write and read one, and in a scan.
    gelu = jax.checkpoint(GELUS[self.gelu], prevent_cse=self.platform == 'cpu')
    hidden = gelu(dense(self.hidden_dim, name='Dense_0')(x))
    hidden = dropout(hidden, self.dropout, hidden_key)
    out = dense(x.shape[-1], name='Dense_1')(hidden)
    return dropout(out, self.dropout, out_key)


def head(
  x: Float[Array, 'b d'], num_classes: int, bias: float, constrain: Constrain
) -> Float[Array, 'b k'] | None:
  """Computes logits by a linear layer, `head` in the caller's scope.

  Its kernel starts from zero (section 3.2), its bias from `bias`; the logits go
  through `constrain`. None for 0 classes.
  """
  if not num_classes:
    return None
  return constrain(
    nn.Dense(
      num_classes,
      kernel_init=nn.initializers.zeros,
      bias_init=nn.initializers.constant(bias),
      name='head',
    )(x)
  )


def check_images(images: Array) -> None:
  """Refuses what no model of this package can look at.

  Raises:
    ValueError: if images are not float (b, h, w, 3).
  """
  is_float = jnp.issubdtype(images.dtype, jnp.floating)
  if not is_float or images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(
      'images must be floats in [-1, 1] of shape (b, h, w, 3), got'
      f' {images.dtype} of shape {images.shape}; put grey images on three'
      ' channels and scale bytes by x / 127.5 - 1.'
    )
