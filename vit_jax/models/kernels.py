"""Faster or smaller implementations of attention, dense layers and norms.

Nothing here changes what a model computes, except for rounding. Some functions
take less time, others keep less memory for the backward pass; see "Plans" and
"Speed" in docs/results.md for measurements.

`attention` and `dot_general` return the implementation for a platform, or None
for the plain one. All functions except `flash` can be differentiated in forward
and reverse mode, and more than once.
"""

from collections.abc import Callable, Sequence
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vit_jax.models import layers

FLASH = 'flash'  # A GPU with cuDNN's flash attention.
_FLASH_CAPABILITY = 8  # Lowest major compute capability: Ampere.


def platform_of(device: jax.Device) -> str:
  """Returns 'cpu', 'tpu', FLASH, or 'gpu' for GPUs without flash attention."""
  if device.platform != 'gpu':
    return device.platform
  # A number such as 9.0 on NVIDIA GPUs, a name such as gfx90a on AMD GPUs.
  major = str(getattr(device, 'compute_capability', '')).split('.')[0]
  has_flash = major.isdigit() and int(major) >= _FLASH_CAPABILITY
  return FLASH if has_flash else 'gpu'


def attention(
  platform: str,
  query: Float[Array, 'b h q s'],
  key: Float[Array, 'b h k s'],
  bias: Float[Array, 'b h q k'] | None,
) -> Callable[..., Array] | None:
  """Returns the implementation of `vit.attention` for these arguments."""
  if platform == 'cpu':
    return late_division
  if platform == FLASH and bias is None and query.dtype == jnp.bfloat16:
    size = query.shape[-1]
    fits = size % 8 == 0 and size <= 128  # cuDNN's limits.
    return flash if fits and query.shape == key.shape else None
  return None


def flash(
  query: Float[Array, 'b h q s'],
  key: Float[Array, 'b h k s'],
  value: Float[Array, 'b h k s'],
  bias: None = None,
  implementation: str = 'cudnn',
) -> Float[Array, 'b h q s']:
  """Computes `vit.attention` without storing the attention weights.

  Supports only reverse-mode differentiation.

  Args:
    query: scaled queries, `q` of `vit.attention`.
    key: its `k`.
    value: its `v`.
    bias: must be None.
    implementation: same as in `jax.nn.dot_product_attention`.
  """
  assert bias is None
  # JAX has cuDNN's gradients only for even numbers of tokens.
  tokens = query.shape[2]
  even = (0, 0), (0, tokens % 2), (0, 0), (0, 0)
  lengths = jnp.full(len(query), tokens, 'int32') if tokens % 2 else None
  query, key, value = (
    jnp.pad(jnp.swapaxes(x, 1, 2), even) for x in (query, key, value)
  )
  out = jax.nn.dot_product_attention(
    query,
    key,
    value,
    scale=1.0,
    query_seq_lengths=lengths,
    key_value_seq_lengths=lengths,
    implementation=implementation,
  )
  return jnp.swapaxes(out[:, :tokens], 1, 2)


@jax.custom_jvp
def late_division(
  query: Float[Array, 'b h q s'],
  key: Float[Array, 'b h k s'],
  value: Float[Array, 'b h k s'],
  bias: Float[Array, 'b h q k'] | None = None,
) -> Float[Array, 'b h q s']:
  """Computes `vit.attention`, but normalizes the softmax after the product.

  This makes fewer passes over arrays of the size of the attention weights, and
  is the fastest implementation on CPUs. Its derivative subtracts a multiple of
  the result instead of one of the weights. Arguments are the same as in
  `vit.attention`.
  """
  return _late_division(query, key, value, bias)[0]


def _late_division(query, key, value, bias):
  logits = jnp.einsum(
    'bhqs,bhks->bhqk', query, key, preferred_element_type=jnp.float32
  )
  if bias is not None:
    logits += bias
  peak = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  terms = jnp.exp(logits - peak)
  scale = 1 / jnp.sum(terms, axis=-1, keepdims=True)
  terms = terms.astype(value.dtype)
  out = scale * jnp.einsum('bhqk,bhks->bhqs', terms, value)
  return out.astype(value.dtype), terms, scale


@late_division.defjvp
def _late_division_jvp(primals, tangents):
  query, key, value, bias = primals
  query_dot, key_dot, value_dot, bias_dot = tangents
  out, terms, scale = _late_division(query, key, value, bias)
  logits_dot = _logits_tangent((query, key), (query_dot, key_dot, bias_dot))
  terms_dot = _times(terms, logits_dot)
  mix = functools.partial(jnp.einsum, 'bhqk,bhks->bhqs')
  sum_dot = mix(terms_dot.astype(value.dtype), value) + mix(terms, value_dot)
  out_dot = scale * (sum_dot - out * jnp.sum(terms_dot, -1, keepdims=True))
  return out, out_dot.astype(out.dtype)


def keep_rounded(attention_weights: Callable[..., Array]) -> Callable[..., Any]:
  """Returns a function that keeps its result rounded for the backward pass.

  Of all arrays of that size, only the result is kept, in its own dtype. Without
  this, the float32 softmax is kept, too, at twice the memory of bfloat16.

  Args:
    attention_weights: same as `vit.attention_weights`.
  """
  weights_of = jax.custom_jvp(attention_weights)

  @weights_of.defjvp
  def jvp(primals, tangents):
    weights = weights_of(*primals)
    change = _times(weights, _logits_tangent(primals, tangents))
    mean = jnp.sum(change, axis=-1, keepdims=True)
    return weights, (change - _times(weights, mean)).astype(weights.dtype)

  return weights_of


def _logits_tangent(primals, tangents):
  """Returns the logits' tangent, rounded like its gradient to query.dtype."""
  query, key, *_ = primals
  query_dot, key_dot, bias_dot = tangents
  product = functools.partial(jnp.einsum, 'bhqs,bhks->bhqk')
  change = (product(query_dot, key) + product(query, key_dot)).astype('float32')
  return change if bias_dot is None else change + bias_dot


# For the backward pass, keeps the weights, but not their float32 copy.
@functools.partial(jax.checkpoint, prevent_cse=False)
def _times(weights, x):
  return weights.astype(jnp.float32) * x


def dense_to_heads(
  x: Float[Array, 'b n d'],
  names: Sequence[str],
  heads: int,
  platform: str,
) -> list[Float[Array, 'b h n s']]:
  """Applies a dense layer per name, and divides its d outputs among heads.

  Heads come before tokens, which makes the products of attention twice as fast
  on CPUs. On CPUs and GPUs, all layers are computed as one matrix product,
  which is faster than several.

  Args:
    x: tokens; the float32 parameters are cast to their dtype.
    names: names of the layers in the caller's scope.
    heads: number of heads, h.
    platform: a result of `platform_of`.
  """
  batch, tokens, width = x.shape
  size = layers.head_size(width, heads)
  shape = width, heads, size
  params = [_HeadParams(shape, name=name)() for name in names]
  params = jax.tree.map(lambda param: param.astype(x.dtype), params)
  if platform == 'tpu':
    projected = [
      jnp.einsum('bnd,dhs->bnhs', x, kernel) + bias for kernel, bias in params
    ]
  else:
    kernel, bias = (
      jnp.stack(values, axis=-3) for values in zip(*params, strict=True)
    )
    joined = jnp.einsum('md,dlhs->mlhs', x.reshape(-1, width), kernel) + bias
    projected = [
      y.reshape(batch, tokens, heads, size)
      for y in jnp.split(joined, len(names), axis=1)
    ]
  return [jnp.swapaxes(y, 1, 2) for y in projected]


class _HeadParams(nn.Module):
  shape: tuple[int, int, int]

  @nn.compact
  def __call__(self):
    init = nn.initializers.xavier_uniform(in_axis=0, out_axis=(1, 2))
    kernel = self.param('kernel', init, self.shape)
    return kernel, self.param('bias', nn.initializers.zeros, self.shape[1:])


def dot_general(platform: str) -> Callable[..., Array] | None:
  """Returns `dot_general` of dense layers on a platform; None for JAX's own."""
  return None if platform == 'tpu' else _matrix_product


def _matrix_product(x, kernel, dimension_numbers, precision=None):
  """Multiplies the tokens of all images, as one matrix, by the kernel.

  With more than two axes, XLA transposes and copies arrays for the products of
  the backward pass on CPUs and GPUs. On TPUs, which pad the second-to-last axis
  to a multiple of 8, this reshape would be a copy.

  Args:
    x: (..., *inner).
    kernel: (*inner, *outer).
    dimension_numbers: contract the last axes of x and the first of the kernel.
    precision: same as in `jax.lax.dot_general`.
  """
  (x_axes, _), _ = dimension_numbers
  inner = math.prod(kernel.shape[: len(x_axes)])
  out = jnp.dot(
    x.reshape(-1, inner), kernel.reshape(inner, -1), precision=precision
  )
  lead, outer = x.shape[: -len(x_axes)], kernel.shape[len(x_axes) :]
  return out.reshape(lead + outer)


def keep_input(
  activation: Callable[[Array], Array], platform: str
) -> Callable[[Array], Array]:
  """Returns an activation that keeps only its input for the backward pass.

  This saves memory in a scan. On CPUs, it is faster everywhere: computing a
  tanh takes no longer than writing and reading it.
  """
  return jax.checkpoint(activation, prevent_cse=platform == 'cpu')


# In a scan, keeps only its input for the backward pass; elsewhere XLA chooses.
LayerNorm = nn.remat(nn.LayerNorm, prevent_cse=False)
