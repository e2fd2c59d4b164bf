"""softmax(query key^T + extra) value, per head (Appendix A, equation 7).

In a form for each kind of device; all are the same up to rounding. Softmaxes
are of float32.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models import platforms


def scores(
  query: Float[Array, 'b h q s'],
  key: Float[Array, 'b h k s'],
  extra: Float[Array, 'b h q k'] | None,
) -> Float[Array, 'b h q k']:
  """What the softmax is of; float32. The arguments are those of `plain`."""
  products = jnp.einsum(
    'bhqs,bhks->bhqk', query, key, preferred_element_type=jnp.float32
  )
  return products if extra is None else products + extra


@jax.custom_vjp
def plain(
  query: Float[Array, 'b h q s'],
  key: Float[Array, 'b h k s'],
  value: Float[Array, 'b h k s'],
  extra: Float[Array, 'b h q k'] | None = None,
) -> Float[Array, 'b h q s']:
  """As it is written. The softmax is rounded to the type of the values.

  It is all of its size that is kept for the backward pass.

  Args:
    query: scaled.
    key: of the tokens that are looked at.
    value: what is gathered from them.
    extra: logits in float32; None for none.
  """
  return _plain_forward(query, key, value, extra)[0]


def _plain_forward(query, key, value, extra):
  weights = jax.nn.softmax(scores(query, key, extra)).astype(value.dtype)
  out = jnp.einsum('bhqk,bhks->bhqs', weights, value)
  return out, (query, key, value, weights, _told(extra))


def _plain_backward(kept, grad):
  return _gradients(*kept, grad)


def _told(extra):
  """Whether there is one, without an array."""
  return None if extra is None else ()


def _gradients(query, key, value, weights, has_extra, grad, mean=None):
  """Of everything, in the orders of axes that CPUs need not transpose.

  `mean` is that of the weights' gradient, if it is there already.
  """
  value_grad = jnp.einsum('bhqk,bhqs->bhks', weights, grad)
  weights_grad = jnp.einsum('bhqs,bhks->bhqk', grad, value)
  weights, weights_grad = (
    x.astype(jnp.float32) for x in (weights, weights_grad)
  )
  if mean is None:
    mean = jnp.sum(weights * weights_grad, axis=-1, keepdims=True)
  scores_grad = weights * (weights_grad - mean)
  extra_grad = None if has_extra is None else scores_grad
  scores_grad = scores_grad.astype(value.dtype)
  query_grad = jnp.einsum('bhqk,bhks->bhqs', scores_grad, key)
  key_grad = jnp.einsum('bhqk,bhqs->bhks', scores_grad, query)
  return query_grad, key_grad, value_grad, extra_grad


plain.defvjp(_plain_forward, _plain_backward)


@jax.custom_vjp
def late(
  query: Float[Array, 'b h q s'],
  key: Float[Array, 'b h k s'],
  value: Float[Array, 'b h k s'],
  extra: Float[Array, 'b h q k'] | None = None,
) -> Float[Array, 'b h q s']:
  """The same, divided by the sum of the exponentials at last.

  That is fewer passes over all weights, and the fastest on CPU; it keeps its
  result as well.

  Args:
    query: this and the others as of `plain`.
    key: see there.
    value: see there.
    extra: see there.
  """
  return _late_forward(query, key, value, extra)[0]


def _late_forward(query, key, value, extra):
  logits = scores(query, key, extra)
  terms = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
  scale = 1 / jnp.sum(terms, axis=-1, keepdims=True)
  terms = terms.astype(value.dtype)
  out = scale * jnp.einsum('bhqk,bhks->bhqs', terms, value)
  out = out.astype(value.dtype)
  return out, (query, key, value, terms, _told(extra), scale, out)


def _late_backward(kept, grad):
  *kept, scale, out = kept
  grad = grad * scale
  mean = jnp.sum(grad * out, axis=-1, keepdims=True)
  return _gradients(*kept, grad.astype(out.dtype), mean)


late.defvjp(_late_forward, _late_backward)


def flash(
  query: Float[Array, 'b h q s'],
  key: Float[Array, 'b h k s'],
  value: Float[Array, 'b h k s'],
  implementation: str = 'cudnn',
) -> Float[Array, 'b h q s']:
  """The same without `extra`, by a kernel that never holds all weights.

  Args:
    query: this and the next as of `plain`.
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
