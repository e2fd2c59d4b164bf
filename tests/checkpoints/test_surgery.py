"""Resized positions, interpolated and averaged weights, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.checkpoints import surgery
import weights


def test_a_row_of_two_becomes_a_row_of_three():
  positions = np.array([[[9.0], [0.0], [4.0]]], 'f4')
  resized = surgery.resize_positions(positions, (1, 2), (1, 3), class_slot=True)
  np.testing.assert_array_equal(resized, [[[9.0], [0.0], [2.0], [4.0]]])
  assert resized.dtype == np.float32


def test_rows_and_columns_are_told_apart():
  # 10 r + c at row r and column c is bilinear, so it stays so between corners.
  rows, columns = np.mgrid[0:3, 0:2]
  positions = (10.0 * rows + columns).reshape(1, -1, 1).astype('f4')
  resized = surgery.resize_positions(
    positions, (3, 2), (2, 5), class_slot=False
  )
  expected = [[0, 0.25, 0.5, 0.75, 1], [20, 20.25, 20.5, 20.75, 21]]
  np.testing.assert_allclose(resized.reshape(2, 5), expected, rtol=1e-6)


def test_an_equal_grid_changes_no_bit():
  rng = np.random.default_rng(0)
  positions = rng.normal(size=(1, 7, 3)).astype('f4')
  positions[0, 3] = -0.0
  same = surgery.resize_positions(positions, (2, 3), (2, 3), class_slot=True)
  weights.assert_same({'p': same}, {'p': positions})


def test_one_patch_is_the_first_of_many():
  positions = np.arange(4, dtype='f4').reshape(1, 4, 1)
  one = surgery.resize_positions(positions, (2, 2), (1, 1), class_slot=False)
  assert one.tolist() == [[[0.0]]]
  many = surgery.resize_positions(one + 5, (1, 1), (2, 2), class_slot=False)
  assert many.ravel().tolist() == [5, 5, 5, 5]


def test_the_number_must_be_that_of_the_grid():
  with pytest.raises(ValueError, match='5 position embeddings.*2x2 patches.$'):
    surgery.resize_positions(
      np.zeros((1, 5, 1)), (2, 2), (3, 3), class_slot=False
    )


def tree(seed):
  rng = np.random.default_rng(seed)
  odd = np.array([-0.0, np.inf, 1e-45, 3e38], 'f4')
  return {'a': {'b': rng.normal(size=50).astype('f4')}, 'odd': odd}


def test_the_ends_of_a_line_are_the_inputs_bit_for_bit():
  a, b = tree(0), tree(1)
  weights.assert_same(surgery.interpolate(a, b, 0), a)
  weights.assert_same(surgery.interpolate(a, b, 1.0), b)


def test_along_a_line_and_past_its_end():
  a = {'x': jnp.array([0.0, 8.0]), 'y': {'z': jnp.array([[1.0]])}}
  b = {'x': jnp.array([4.0, 0.0]), 'y': {'z': jnp.array([[3.0]])}}
  quarter = surgery.interpolate(a, b, 0.25)
  assert quarter['x'].tolist() == [1, 6]
  assert quarter['y']['z'].tolist() == [[1.5]]
  assert quarter['x'].dtype == np.float32
  assert surgery.interpolate(a, b, 1.5)['x'].tolist() == [6, -4]


@pytest.mark.parametrize('number', [1, 2, 3, 7])
def test_the_mean_of_equals_is_equal_bit_for_bit(number):
  weights.assert_same(surgery.average([tree(0)] * number), tree(0))


def test_the_mean_of_three_from_a_generator():
  trees = ({'x': np.array([n, 3 * n], 'f4')} for n in (1, 2, 6))
  assert surgery.average(trees)['x'].tolist() == [3, 9]


def test_the_mean_of_nothing_is_refused():
  with pytest.raises(ValueError, match='give one at least'):
    surgery.average([])


@pytest.mark.parametrize(
  'other, message',
  [
    (
      {'a': {'b': np.zeros(3)}},
      r"'a/b' has the shape \(2,\) in one and \(3,\)",
    ),
    ({'a': {'c': np.zeros(2)}}, r"'a/b' has.*\(2,\) in one and of nothing in"),
    (
      {'a': {'b': np.zeros(2), 'c': np.zeros(1)}},
      r"'a/c' has the shape of nothing in one and \(1,\) in",
    ),
  ],
)
def test_weights_of_different_models_are_refused(other, message):
  one = {'a': {'b': np.zeros(2)}}
  with pytest.raises(ValueError, match=message):
    surgery.interpolate(one, other, 0)
  with pytest.raises(ValueError, match=message):
    surgery.average([one, other])
