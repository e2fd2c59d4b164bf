"""Multi-head self-attention."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models import attend, layers


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


class HeadProjection(nn.Module):
  """Parameters of a dense layer from tokens to heads.

  Attributes:
    heads: number of heads.
    size: dimensions of a head.
  """

  heads: int
  size: int

  @nn.compact
  def __call__(
    self, width: int
  ) -> tuple[Float[Array, 'd h s'], Float[Array, 'h s']]:
    """The kernel and the bias, for tokens of `width`."""
    shape = self.heads, self.size
    init = nn.initializers.xavier_uniform(in_axis=0, out_axis=(1, 2))
    kernel = self.param('kernel', init, (width, *shape))
    return kernel, self.param('bias', nn.initializers.zeros, shape)


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
    platform: of the devices, as of `platforms.of`. Where they have it, flash
      attention is used in bfloat16 if nothing but its result is asked for.
  """

  heads: int
  dtype: DTypeLike
  query_logits: Callable[[Array], Array] | None = None
  platform: str = ''

  @nn.compact
  def __call__(self, x: Float[Array, 'b n d']) -> Float[Array, 'b n d']:
    """Lets every token gather from all tokens of its image."""
    width = x.shape[-1]
    size = head_size(width, self.heads)
    query, key, value = self._project(x.astype(self.dtype), size)
    query = query / size**0.5
    extra = None if self.query_logits is None else self.query_logits(query)
    sows = self.is_mutable_collection('intermediates')
    if sows:
      weights = jax.nn.softmax(attend.scores(query, key, extra))
      self.sow('intermediates', 'weights', weights)
    nothing_else = extra is None and not sows
    if nothing_else and attend.has_flash(self.platform, self.dtype, size):
      out = attend.flash(query, key, value)
    elif self.platform == 'cpu':
      out = attend.late(query, key, value, extra)
    else:
      out = attend.plain(query, key, value, extra)
    return nn.DenseGeneral(
      width,
      axis=(-2, -1),
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
      dot_general=layers.dot_general(self.platform),
      name='out',
    )(jnp.swapaxes(out, 1, 2))

  def _project(self, x, size):
    """Queries, keys and values, (b, heads, n, size)."""
    params = [
      HeadProjection(self.heads, size, name=name)(x.shape[-1])
      for name in ('query', 'key', 'value')
    ]
    kernels, biases = zip(
      *jax.tree.map(lambda p: p.astype(self.dtype), params), strict=True
    )
    if self.platform == 'cpu':
      # One product is faster than three, and a bias that is added to its rows
      # has its gradient from the array that the product's comes from.
      width = x.shape[-1]
      kernel = jnp.concatenate([k.reshape(width, -1) for k in kernels], axis=1)
      bias = jnp.concatenate([b.reshape(-1) for b in biases])
      together = x.reshape(-1, width) @ kernel + bias
      together = together.reshape(*x.shape[:2], 3 * self.heads, size)
      projected = jnp.split(together, 3, axis=2)
    else:
      projected = (
        jnp.einsum('bnd,dhs->bnhs', x, kernel) + bias
        for kernel, bias in zip(kernels, biases, strict=True)
      )
    # Heads before tokens: the products of attention then run twice as fast on
    # CPU.
    return [jnp.swapaxes(y, 1, 2) for y in projected]
