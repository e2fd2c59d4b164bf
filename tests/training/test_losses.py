"""Losses against values computed by hand, under jit."""

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.training import steps


def test_softmax_cross_entropy_of_two_classes():
  # softmax([0, log 3]) = [1/4, 3/4], so the loss of class 0 is log 4.
  logits = jnp.array([[0.0, np.log(3.0)]])
  loss = jax.jit(steps.softmax_cross_entropy)(logits, jnp.array([[1.0, 0.0]]))
  np.testing.assert_allclose(loss, [np.log(4.0)], rtol=1e-6)


def test_sigmoid_cross_entropy_sums_over_classes():
  # sigmoid(log 3) = 3/4: -log 3/4 for the label, -log(1 - 3/4) otherwise.
  logits = jnp.full((1, 3), np.log(3.0))
  targets = jnp.array([[1.0, 0.0, 1.0]])
  loss = jax.jit(steps.sigmoid_cross_entropy)(logits, targets)
  expected = -2 * np.log(0.75) - np.log(0.25)
  np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_sigmoid_cross_entropy_of_large_logits_is_finite():
  loss = steps.sigmoid_cross_entropy(
    jnp.array([[-1e4, 1e4]]), jnp.array([[1.0, 0.0]])
  )
  np.testing.assert_allclose(loss, [2e4], rtol=1e-6)


def test_smooth_labels_keeps_the_sum():
  smoothed = steps.smooth_labels(jnp.array([[1.0, 0.0, 0.0, 0.0]]), 0.2)
  np.testing.assert_allclose(smoothed, [[0.85, 0.05, 0.05, 0.05]], rtol=1e-6)


def test_targets_of_class_indices_and_of_rows():
  targets = steps.as_targets(jnp.array([2, 0]), 3)
  np.testing.assert_array_equal(targets, [[0, 0, 1], [1, 0, 0]])
  rows = jnp.array([[0.0, 1.0, 1.0]])
  np.testing.assert_array_equal(steps.as_targets(rows, 3), rows)


def test_balanced_weights_average_one_over_the_examples():
  counts = np.array([1, 3, 0, 4])
  weights = steps.balanced_weights(counts)
  np.testing.assert_allclose(weights, [8 / 3, 8 / 9, 0, 2 / 3], rtol=1e-6)
  np.testing.assert_allclose(np.sum(weights * counts), 8, rtol=1e-6)
