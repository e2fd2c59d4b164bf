"""Self-attention: its weights, and heads that do not fit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models import attention, platforms


def test_head_size():
  assert attention.head_size(768, 12) == 64


def test_heads_that_do_not_divide_the_width_are_refused():
  with pytest.raises(ValueError, match='width of 64 .* 5 .* width of 65'):
    attention.head_size(64, 5)


def test_weights_are_sown_on_request_only():
  module = attention.SelfAttention(heads=2, dtype=jnp.bfloat16)
  x = jax.random.normal(jax.random.key(0), (3, 5, 8))
  variables = jax.jit(module.init)(jax.random.key(1), x)
  assert set(variables) == {'params'}
  apply = functools.partial(module.apply, mutable='intermediates')
  _, sown = jax.jit(apply)(variables, x)
  (weights,) = sown['intermediates']['weights']
  assert weights.shape == (3, 2, 5, 5)
  assert weights.dtype == jnp.float32
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
  assert np.ptp(weights) > 0.01


def heads(seed, dtype=jnp.float32, tokens=7, size=8):
  """Queries, keys, values and the gradient of the result."""
  shape = 4, 2, 3, tokens, size
  return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def by_autodiff(query, key, value, extra):
  scores = jnp.einsum('bhqs,bhks->bhqk', query, key)
  return jnp.einsum('bhqk,bhks->bhqs', jax.nn.softmax(scores + extra), value)


def test_the_gradient_of_attention_is_that_of_jax():
  query, key, value, grad = heads(0)
  extra = jax.random.normal(jax.random.key(1), (2, 3, 7, 7))
  arguments = query, key, value, extra
  expected, expected_vjp = jax.vjp(by_autodiff, *arguments)
  out, vjp = jax.vjp(attention.attend, *arguments)
  np.testing.assert_allclose(out, expected, atol=1e-5)
  for found, wanted in zip(vjp(grad), expected_vjp(grad), strict=True):
    assert jnp.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_attention_in_bfloat16_is_near_that_in_float32():
  *arguments, grad = heads(0, jnp.bfloat16)
  out, vjp = jax.vjp(attention.attend, *arguments)
  *exact, exact_grad = (x.astype(jnp.float32) for x in (*arguments, grad))
  expected, expected_vjp = jax.vjp(attention.attend, *exact)
  pairs = zip(
    (out, *vjp(grad)), (expected, *expected_vjp(exact_grad)), strict=True
  )
  for found, wanted in pairs:
    assert found.dtype == jnp.bfloat16
    error = jnp.abs(found.astype(jnp.float32) - wanted).max()
    assert error < 0.03 * jnp.abs(wanted).max()


def test_flash_attention_is_given_what_it_expects():
  """By the implementation of the same function that runs everywhere."""
  *arguments, grad = heads(0)
  flash = functools.partial(attention.flash_attend, implementation='xla')
  out, vjp = jax.vjp(flash, *arguments)
  expected, expected_vjp = jax.vjp(attention.attend, *arguments)
  np.testing.assert_allclose(out, expected, atol=1e-5)
  for found, wanted in zip(vjp(grad), expected_vjp(grad), strict=True):
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
  'platform, dtype, size, there',
  [
    (platforms.FLASH, jnp.bfloat16, 64, True),
    (platforms.FLASH, jnp.bfloat16, 80, True),
    (platforms.FLASH, jnp.bfloat16, 20, False),
    (platforms.FLASH, jnp.bfloat16, 256, False),
    (platforms.FLASH, jnp.float32, 64, False),
    ('gpu', jnp.bfloat16, 64, False),
    ('cpu', jnp.bfloat16, 64, False),
    ('tpu', jnp.bfloat16, 64, False),
  ],
)
def test_where_flash_attention_is_used(platform, dtype, size, there):
  assert attention.has_flash(platform, dtype, size) == there
