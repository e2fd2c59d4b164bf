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
