"""Dropout, GELU and head sizes against known values."""

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
