"""Multi-head self-attention."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models import layers, platforms


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


@jax.custom_vjp
def attend(
  query: Float[Array, 'b h q s'],
  key: Float[Array, 'b h k s'],
  value: Float[Array, 'b h k s'],
  extra: Float[Array, 'b h q k'] | None = None,
) -> Float[Array, 'b h q s']:
  """softmax(query key^T + extra) value, per head (Appendix A, equation 7).

  The softmax is of float32, its result of the values' type. The backward pass
  starts from that result, the only one of its size that is kept, and writes its
  products in the order of axes that needs no transposition of them on CPU.

  Args:
    query: scaled.
    key: of the tokens that are looked at.
    value: what is gathered from them.
    extra: logits in float32; None for none.
  """
  return _attend_forward(query, key, value, extra)[0]


def scores(
  query: Float[Array, 'b h q s'],
  key: Float[Array, 'b h k s'],
  extra: Float[Array, 'b h q k'] | None,
) -> Float[Array, 'b h q k']:
  """What `attend` takes the softmax of; float32."""
  products = jnp.einsum(
    'bhqs,bhks->bhqk', query, key, preferred_element_type=jnp.float32
  )
  return products if extra is None else products + extra


def _attend_forward(query, key, value, extra):
  weights = jax.nn.softmax(scores(query, key, extra)).astype(value.dtype)
  out = jnp.einsum('bhqk,bhks->bhqs', weights, value)
  # Whether there is `extra` is told without an array.
  has_extra = None if extra is None else ()
  return out, (query, key, value, weights, has_extra)


def _attend_backward(kept, grad):
  query, key, value, weights, has_extra = kept
  value_grad = jnp.einsum('bhqk,bhqs->bhks', weights, grad)
  weights_grad = jnp.einsum('bhqs,bhks->bhqk', grad, value)
  weights, weights_grad = (
    x.astype(jnp.float32) for x in (weights, weights_grad)
  )
  mean = jnp.sum(weights * weights_grad, axis=-1, keepdims=True)
  scores_grad = weights * (weights_grad - mean)
  extra_grad = None if has_extra is None else scores_grad
  scores_grad = scores_grad.astype(value.dtype)
  query_grad = jnp.einsum('bhqk,bhks->bhqs', scores_grad, key)
  key_grad = jnp.einsum('bhqk,bhqs->bhks', scores_grad, query)
  return query_grad, key_grad, value_grad, extra_grad


attend.defvjp(_attend_forward, _attend_backward)


def flash_attend(
  query: Float[Array, 'b h q s'],
  key: Float[Array, 'b h k s'],
  value: Float[Array, 'b h k s'],
  implementation: str = 'cudnn',
) -> Float[Array, 'b h q s']:
  """The same without `extra`, by a kernel that never holds all weights.

  Args:
    query: scaled, like the others as of `attend`.
    key: see there.
    value: see there.
    implementation: as of `jax.nn.dot_product_attention`.
  """
  query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
  out = jax.nn.dot_product_attention(
    query, key, value, scale=1.0, implementation=implementation
  )
  return jnp.swapaxes(out, 1, 2)


def has_flash(platform: str, dtype: DTypeLike, size: int) -> bool:
  """Whether cuDNN has such a kernel, for heads of `size` in `dtype`."""
  return (
    platform == platforms.FLASH
    and dtype == jnp.bfloat16
    and size % 8 == 0
    and size <= 128
  )


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
      weights = jax.nn.softmax(scores(query, key, extra))
      self.sow('intermediates', 'weights', weights)
    if (
      extra is None and not sows and has_flash(self.platform, self.dtype, size)
    ):
      out = flash_attend(query, key, value)
    else:
      out = attend(query, key, value, extra)
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
    dot_general = layers.dot_general(self.platform)

    def project(kernel, bias):
      return dot_general(x, kernel, (((2,), (0,)), ((), ()))) + bias

    if self.platform == 'cpu':
      # One product is faster than three.
      together = project(
        jnp.concatenate(kernels, axis=1), jnp.concatenate(biases)
      )
      projected = jnp.split(together, 3, axis=2)
    else:
      projected = map(project, kernels, biases)
    # Heads before tokens: the products of attention then run twice as fast on
    # CPU.
    return [jnp.swapaxes(y, 1, 2) for y in projected]
