"""Few-shot regression against scikit-learn, and by hand."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
from sklearn import linear_model

from vit_jax.checkpoints import finite
from vit_jax.evaluation import few_shot_regression

L2 = 2.0**10


def random_features(n, d, *, seed=0):
  rng = np.random.default_rng(seed)
  scales = rng.uniform(0.01, 10, d)
  return (rng.normal(size=(n, d)) * scales + scales).astype(np.float32)


@pytest.mark.parametrize('l2', [L2, 1e-3])
@pytest.mark.parametrize(('n', 'd'), [(60, 16), (17, 16), (16, 16), (12, 48)])
def test_solution_equals_ridge_regression(n, d, l2):
  features, queries = random_features(n, d), random_features(30, d, seed=1)
  features, queries = few_shot_regression.augment(features, queries)
  targets = 2.0 * np.eye(4)[np.arange(n) % 4] - 1
  ridge = linear_model.Ridge(alpha=l2, fit_intercept=False, solver='svd')
  ridge.fit(features, targets)
  weights = few_shot_regression.solve(features, targets, l2)
  assert weights.shape == (d + 1, 4)
  np.testing.assert_allclose(weights, ridge.coef_.T, rtol=1e-4, atol=1e-9)
  np.testing.assert_allclose(
    queries @ weights, ridge.predict(queries), rtol=1e-4, atol=1e-6
  )


def test_both_systems_have_the_same_solution():
  # W = 2 / (1 + 4 + l2) for X = [1, 2]^T, and for one row of them.
  column, row = np.array([[1.0], [2.0]]), np.array([[1.0, 2.0]])
  np.testing.assert_allclose(
    few_shot_regression.solve(column, np.array([[2.0], [0.0]]), 5.0), [[0.2]]
  )
  np.testing.assert_allclose(
    few_shot_regression.solve(row, np.array([[2.0]]), 5.0), [[0.2], [0.4]]
  )


def test_whitening_by_hand():
  support = np.array([[1, 5], [3, 5]], np.float32)  # Deviations: 1 and 0.
  features, queries = few_shot_regression.augment(
    support, np.array([[4, 5 + 1e-3]], np.float32)
  )
  one = 1 / (1 + 1e-5)
  np.testing.assert_allclose(features, [[-one, 0, 100], [one, 0, 100]])
  np.testing.assert_allclose(queries, [[2 * one, 100, 100]], rtol=1e-3)


def test_support_depends_on_the_seed_and_grows_with_shots():
  labels = np.array([2, 0, 1, 0, 2, 2, 0, 0, 2, 0])
  draws = {
    (shots, seed): few_shot_regression.choose_support(labels, 4, shots, seed)
    for shots in (1, 2, 9)
    for seed in range(9)
  }
  for (shots, seed), chosen in draws.items():
    assert len(set(chosen)) == len(chosen)
    counts = np.bincount(labels[chosen], minlength=4)
    # Class 1 has one example, class 3 none.
    np.testing.assert_array_equal(
      counts, np.minimum([5, 1, 4, 0], shots), str(shots)
    )
    again = few_shot_regression.choose_support(labels, 4, shots, seed)
    np.testing.assert_array_equal(chosen, again)
    assert set(draws[1, seed]) <= set(chosen)
  assert len({tuple(draws[2, seed]) for seed in range(9)}) > 5
  # As in big_vision: one permutation per class, in order.
  rng = np.random.default_rng(3)
  first, second = (rng.permutation(np.flatnonzero(labels == k)) for k in (0, 1))
  np.testing.assert_array_equal(draws[2, 3][:3], [*first[:2], *second])


@pytest.mark.parametrize('labels', [[0, -1], [0, 3]])
def test_invalid_labels_are_refused(labels):
  with pytest.raises(ValueError, match=r'labels are in .* classes are 0 to 2'):
    few_shot_regression.choose_support(np.array(labels), 3, 1, 0)


def clusters(n, *, classes=3, seed=0):
  rng = np.random.default_rng(seed)
  label = np.arange(n) % classes
  values = 3 * np.eye(classes)[label] + rng.normal(size=(n, classes), scale=0.4)
  return few_shot_regression.Features(
    values.astype(np.float32), label, np.arange(n)
  )


def test_accuracy():
  support, queries = clusters(30), clusters(60, seed=1)
  assert (
    few_shot_regression.accuracy(support, queries, num_classes=3, l2=L2) == 1
  )
  wrong = dataclasses.replace(queries, label=(queries.label + 1) % 3)
  assert few_shot_regression.accuracy(support, wrong, num_classes=3, l2=L2) == 0
  # A class without examples is never predicted.
  two = support.take(np.flatnonzero(support.label != 1))
  assert few_shot_regression.accuracy(
    two, queries, num_classes=4, l2=L2
  ) == pytest.approx(2 / 3)


class Doubled(nn.Module):
  """A model whose features are twice its input."""

  @nn.compact
  def __call__(self, images, *, train=False, tokens):
    assert not train and not tokens
    return None, {'pre_logits': 2 * images[:, 0, 0].astype('bfloat16')}


@pytest.mark.parametrize('size', [1, 3, 5, 8])
def test_padding_is_dropped(size):
  def batches():
    for start in range(0, 5, size):
      rows = np.arange(start, start + size)
      real = (rows < 5).astype(np.float32)
      yield {
        'image': rows.astype(np.float32)[:, None, None, None],
        'label': rows % 3,
        'mask': real,
        'index': np.where(real, rows, -1),
      }

  step = jax.jit(few_shot_regression.make_feature_step(Doubled()))
  features = few_shot_regression.extract(
    step, {}, batches(), lambda batch: batch
  )
  np.testing.assert_array_equal(features.values, [[0], [2], [4], [6], [8]])
  assert features.values.dtype == np.float32
  np.testing.assert_array_equal(features.label, [0, 1, 2, 0, 1])


@pytest.mark.filterwarnings('ignore:invalid value')
def test_scores_that_are_not_finite_are_an_error():
  features = few_shot_regression.Features(
    random_features(6, 3), np.arange(6) % 2, np.arange(6)
  )
  queries = dataclasses.replace(
    features, values=np.full((6, 3), np.inf, np.float32)
  )
  with pytest.raises(finite.NonFiniteError, match='regression: .* in scores'):
    few_shot_regression.accuracy(features, queries, num_classes=2, l2=1.0)
