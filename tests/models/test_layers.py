"""Dropout, stochastic depth, GELU and head sizes against known values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models import layers


def test_dropout_keeps_the_mean():
  ones = jnp.ones((100, 100))
  dropped = np.asarray(layers.dropout(ones, 0.2, jax.random.key(0)))
  np.testing.assert_allclose(np.unique(dropped), [0, 1.25])
  assert np.mean(dropped == 0) == pytest.approx(0.2, abs=0.02)


def test_no_key_no_dropout():
  assert layers.split_key(None) == (None, None)
  x = jnp.ones((3, 3))
  assert layers.dropout(x, 0.9, None) is x


def test_branches_are_dropped_at_a_rate_that_rises_by_block():
  depth, branches, images = 4, 2, 5000
  factors = np.asarray(
    layers.branch_factors(jax.random.key(0), 0.3, (depth, branches, images))
  )
  for block, rate in zip(factors, (0, 0.1, 0.2, 0.3), strict=True):
    values = [0, 1 / (1 - rate)] if rate else [1]
    np.testing.assert_allclose(np.unique(block), values, rtol=1e-6)
    deviation = (rate * (1 - rate) / images) ** 0.5
    for dropped in block == 0:
      assert np.mean(dropped) == pytest.approx(rate, abs=3 * deviation)
    # Branches are independent.
    both = np.mean((block == 0).all(0))
    deviation = (rate**2 * (1 - rate**2) / images) ** 0.5
    assert both == pytest.approx(rate**2, abs=3 * deviation)


def test_the_first_block_of_one_keeps_its_branches():
  factors = layers.branch_factors(jax.random.key(0), 0.9, (1, 2, 50))
  assert (factors == 1).all()


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_stochastic_depth_keeps_the_mean_over_keys(dtype):
  y = jax.random.normal(jax.random.key(0), (2, 3, 4), dtype)

  def branch(key):
    factors = layers.branch_factors(key, 0.4, (3, 2, 2))
    return layers.scale_branch(y, factors[2], 1)

  keys = jax.random.split(jax.random.key(1), 4000)
  scaled = jax.vmap(branch)(keys)
  assert scaled.dtype == y.dtype
  scaled, y = np.asarray(scaled, np.float32), np.asarray(y, np.float32)
  deviation = np.abs(y) * (0.4 / 0.6 / len(keys)) ** 0.5
  assert (np.abs(scaled.mean(0) - y) < 3 * deviation).all()


def test_no_factors_no_stochastic_depth():
  y = jnp.ones((2, 3, 4))
  assert layers.scale_branch(y, None, 0) is y


@pytest.mark.parametrize(
  # x Phi(x) at 1, and its tanh approximation (Hendrycks and Gimpel, 2016).
  'name, value',
  [('erf', 0.8413447), ('tanh', 0.8411920)],
)
def test_gelu(name, value):
  np.testing.assert_allclose(layers.GELUS[name](1.0), value, rtol=1e-6)


def test_head_size():
  assert layers.head_size(768, 12) == 64


def test_heads_that_do_not_divide_the_width_are_refused():
  with pytest.raises(ValueError, match='width of 64 .* 5 .* width of 65'):
    layers.head_size(64, 5)
