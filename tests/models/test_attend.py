"""Attention in the forms of each kind of device: one function, one gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models import attend, platforms

FORMS = pytest.mark.parametrize('form', [attend.plain, attend.late])


def heads(seed, dtype=jnp.float32, tokens=7, size=8):
  """Queries, keys, values and the gradient of the result."""
  shape = 4, 2, 3, tokens, size
  return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def by_autodiff(query, key, value, extra):
  scores = jnp.einsum('bhqs,bhks->bhqk', query, key)
  return jnp.einsum('bhqk,bhks->bhqs', jax.nn.softmax(scores + extra), value)


@FORMS
def test_the_gradient_of_attention_is_that_of_jax(form):
  query, key, value, grad = heads(0)
  extra = jax.random.normal(jax.random.key(1), (2, 3, 7, 7))
  arguments = query, key, value, extra
  expected, expected_vjp = jax.vjp(by_autodiff, *arguments)
  out, vjp = jax.vjp(form, *arguments)
  np.testing.assert_allclose(out, expected, atol=1e-5)
  for found, wanted in zip(vjp(grad), expected_vjp(grad), strict=True):
    assert jnp.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@FORMS
def test_attention_in_bfloat16_is_near_that_in_float32(form):
  *arguments, grad = heads(0, jnp.bfloat16)
  out, vjp = jax.vjp(form, *arguments)
  *exact, exact_grad = (x.astype(jnp.float32) for x in (*arguments, grad))
  expected, expected_vjp = jax.vjp(form, *exact)
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
  flash = functools.partial(attend.flash, implementation='xla')
  out, vjp = jax.vjp(flash, *arguments)
  expected, expected_vjp = jax.vjp(attend.plain, *arguments)
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
  assert attend.has_flash(platform, dtype, size) == there
