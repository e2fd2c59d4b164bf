"""Self-attention: its weights, and heads that do not fit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models import attention


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


def test_the_gradient_of_softmax_is_that_of_jax():
  key = jax.random.key(0)
  scores, factors = 3 * jax.random.normal(key, (2, 4, 5))

  def gradient(softmax):
    return jax.grad(lambda x: jnp.sum(factors * softmax(x)))(scores)

  expected = gradient(jax.nn.softmax)
  assert jnp.abs(expected).max() > 0.1
  np.testing.assert_allclose(
    gradient(lambda x: attention.softmax(x, jnp.float32)), expected, atol=1e-6
  )
  np.testing.assert_allclose(
    gradient(lambda x: attention.softmax(x, jnp.bfloat16)), expected, atol=2e-2
  )
