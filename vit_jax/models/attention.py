"""Multi-head self-attention."""

from collections.abc import Callable
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def head_size(width: int, heads: int) -> int:
  """Returns the dimensions of one attention head.

  Raises:
    ValueError: if the heads cannot share the width evenly.
  """
  if width % heads:
    raise ValueError(
      f'a width of {width} cannot be shared by {heads} attention heads: width'
      f' must be a multiple of heads; use a width of'
      f' {max(round(width / heads), 1) * heads}, or another number of heads.'
    )
  return width // heads


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def softmax(
  scores: Float[Array, '... n'], dtype: DTypeLike
) -> Float[Array, '... n']:
  """Softmax of float32 scores, rounded to `dtype`.

  The backward pass starts from the rounded result, the only one that is kept;
  without a gradient of its own, it would keep those before rounding too.
  """
  return jax.nn.softmax(scores).astype(dtype)


def _softmax_forward(scores, dtype):
  weights = softmax(scores, dtype)
  return weights, weights


def _softmax_backward(dtype, weights, grad):
  del dtype
  weights, grad = weights.astype(jnp.float32), grad.astype(jnp.float32)
  mean = jnp.sum(weights * grad, axis=-1, keepdims=True)
  return (weights * (grad - mean),)


softmax.defvjp(_softmax_forward, _softmax_backward)


class SelfAttention(nn.Module):
  """softmax(q k^T / sqrt(head size)) v per head, mixed by a last projection.

  Appendix A, equations 5 to 8. The softmax is computed in float32. Attention
  weights (b, heads, n, n), float32, are sown as `weights` for callers that make
  the collection 'intermediates' mutable.

  Attributes:
    heads: number of heads.
    dtype: type of the products; parameters stay float32.
    query_logits: makes logits (b, heads, n, n) of queries alone, scaled as
      they are, which are added before the softmax; None adds nothing.
  """

  heads: int
  dtype: DTypeLike
  query_logits: Callable[[Array], Array] | None = None

  @nn.compact
  def __call__(self, x: Float[Array, 'b n d']) -> Float[Array, 'b n d']:
    """Lets every token gather from all tokens of its image."""
    width = x.shape[-1]
    size = head_size(width, self.heads)
    dense = functools.partial(
      nn.DenseGeneral,
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
    )

    def project(name):
      projected = dense((self.heads, size), name=name)(x)
      # Heads before tokens: the products below then run twice as fast on CPU.
      return jnp.swapaxes(projected, 1, 2)

    query, key, value = project('query'), project('key'), project('value')
    query = query / size**0.5
    scores = jnp.einsum(
      'bhqs,bhks->bhqk', query, key, preferred_element_type=jnp.float32
    )
    if self.query_logits is not None:
      scores += self.query_logits(query)
    if self.is_mutable_collection('intermediates'):
      self.sow('intermediates', 'weights', jax.nn.softmax(scores))
    out = jnp.einsum('bhqk,bhks->bhqs', softmax(scores, self.dtype), value)
    return dense(width, axis=(-2, -1), name='out')(jnp.swapaxes(out, 1, 2))
