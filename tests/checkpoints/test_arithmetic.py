"""Interpolated and averaged weights by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.checkpoints import arithmetic
import weights


def tree(seed):
  rng = np.random.default_rng(seed)
  odd = np.array([-0.0, np.inf, 1e-45, 3e38], 'f4')
  return {'a': {'b': rng.normal(size=50).astype('f4')}, 'odd': odd}


def test_alphas_of_0_and_1_return_the_inputs_bit_for_bit():
  a, b = tree(0), tree(1)
  weights.assert_same(arithmetic.interpolate(a, b, 0), a)
  weights.assert_same(arithmetic.interpolate(a, b, 1.0), b)


def test_interpolation_and_extrapolation():
  a = {'x': jnp.array([0.0, 8.0]), 'y': {'z': jnp.array([[1.0]])}}
  b = {'x': jnp.array([4.0, 0.0]), 'y': {'z': jnp.array([[3.0]])}}
  quarter = arithmetic.interpolate(a, b, 0.25)
  assert quarter['x'].tolist() == [1, 6]
  assert quarter['y']['z'].tolist() == [[1.5]]
  assert quarter['x'].dtype == np.float32
  assert arithmetic.interpolate(a, b, 1.5)['x'].tolist() == [6, -4]


@pytest.mark.parametrize('number', [1, 2, 3, 7])
def test_average_of_equal_trees_is_bit_identical(number):
  weights.assert_same(arithmetic.average([tree(0)] * number), tree(0))


def test_average_of_a_generator():
  trees = ({'x': np.array([n, 3 * n], 'f4')} for n in (1, 2, 6))
  assert arithmetic.average(trees)['x'].tolist() == [3, 9]


def test_average_of_nothing_is_refused():
  with pytest.raises(ValueError, match='pass at least one'):
    arithmetic.average([])


@pytest.mark.parametrize(
  'other, message',
  [
    (
      {'a': {'b': np.zeros(3)}},
      r"'a/b', one has the shape \(2,\) and another has the shape \(3,\)",
    ),
    (
      {'a': {'c': np.zeros(2)}},
      r"'a/b'.*\(2,\) and another has no such p",
    ),
    (
      {'a': {'b': np.zeros(2), 'c': np.zeros(1)}},
      r"'a/c', one has no such .* and another has the shape \(1,\)",
    ),
  ],
)
def test_weights_of_different_models_are_refused(other, message):
  one = {'a': {'b': np.zeros(2)}}
  with pytest.raises(ValueError, match=message):
    arithmetic.interpolate(one, other, 0)
  with pytest.raises(ValueError, match=message):
    arithmetic.average([one, other])
