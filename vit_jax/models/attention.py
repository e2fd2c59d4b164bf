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
    weights = jax.nn.softmax(scores)
    self.sow('intermediates', 'weights', weights)
    out = jnp.einsum('bhqk,bhks->bhqs', weights.astype(self.dtype), value)
    return dense(width, axis=(-2, -1), name='out')(jnp.swapaxes(out, 1, 2))
