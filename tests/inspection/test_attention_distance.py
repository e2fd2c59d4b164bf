"""Attention distance against sums over pairs of tokens."""

import math

import numpy as np
import pytest

from vit_jax.inspection import attention_distance

GRID, TOKEN_SIZE = (6, 4), (16, 8)  # A grid and tokens that are not square.
TOKENS = [(i * 16, j * 8) for i in range(6) for j in range(4)]


def mean_distance():
  """Returns the mean over all pairs of tokens, including equal ones."""
  pairs = [math.dist(a, b) for a in TOKENS for b in TOKENS]
  return math.fsum(pairs) / len(pairs)


def distance(weights, num_prefix=0, renormalise=False, grid=GRID):
  between = attention_distance.token_distances(grid, TOKEN_SIZE)
  return np.asarray(
    attention_distance.attention_distance(
      np.asarray(weights, np.float32),
      between,
      num_prefix=num_prefix,
      renormalise=renormalise,
    )
  )


def test_token_distances():
  between = attention_distance.token_distances(GRID, TOKEN_SIZE)
  assert between.shape == (24, 24)
  assert between[0, 1] == 8
  assert between[0, 4] == 16
  assert between[1, 23] == math.hypot(5 * 16, 2 * 8)
  np.testing.assert_array_equal(between, between.T)


def test_distance_of_uniform_attention():
  weights = np.full((2, 3, 24, 24), 1 / 24)
  np.testing.assert_allclose(
    distance(weights), np.full((2, 3), mean_distance()), rtol=1e-5
  )


def test_diagonal_attention_has_distance_zero():
  weights = np.broadcast_to(np.eye(24), (1, 2, 24, 24))
  np.testing.assert_array_equal(distance(weights), np.zeros((1, 2)))


def test_attention_to_the_next_column():
  # All tokens attend to the next column, 8 px to the right; those of the last
  # column to the first one, 3 columns to the left.
  weights = np.zeros((1, 1, 24, 24))
  for i in range(6):
    for j in range(4):
      weights[0, 0, 4 * i + j, 4 * i + (j + 1) % 4] = 1
  np.testing.assert_allclose(distance(weights), [[(3 * 8 + 24) / 4]])


def test_attention_to_the_class_token_counts_as_distance_zero():
  # A quarter goes to the class token, the rest uniformly to patches.
  weights = np.full((1, 1, 25, 25), 0.75 / 24)
  weights[..., 0] = 0.25
  weights[..., 0, :] = np.nan  # The row of the class token is ignored.
  (result,) = distance(weights, num_prefix=1)
  np.testing.assert_allclose(result, [0.75 * mean_distance()], rtol=1e-5)
  (result,) = distance(weights, num_prefix=1, renormalise=True)
  np.testing.assert_allclose(result, [mean_distance()], rtol=1e-5)


def test_renormalising_has_no_effect_without_class_token():
  weights = np.random.default_rng(0).dirichlet(np.ones(24), (1, 1, 24))
  np.testing.assert_allclose(
    distance(weights, renormalise=True), distance(weights), rtol=1e-5
  )


def test_mismatched_grid_is_refused():
  with pytest.raises(ValueError, match='of 24 tokens, but distances of 20'):
    distance(np.ones((1, 1, 24, 24)), grid=(5, 4))
