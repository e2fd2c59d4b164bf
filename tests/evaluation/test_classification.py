"""Classification metrics by hand."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from vit_jax.checkpoints import finite
from vit_jax.evaluation import classification

LOGITS = np.log(
  np.array(
    [
      [0.7, 0.2, 0.1],
      [0.1, 0.8, 0.1],
      [0.2, 0.2, 0.6],
      [0.5, 0.25, 0.25],
      [0.9, 0.05, 0.05],
    ],
    np.float32,
  )  # fmt: skip
)
LABELS = np.array([0, 1, 1, 0, 2], np.int32)


class Identity(nn.Module):
  """A model whose logits are its input."""

  @nn.compact
  def __call__(self, images, *, train=False, tokens):
    return images[:, 0, 0], {}


def batches(size, labels=LABELS):
  for start in range(0, 5, size):
    rows = np.arange(start, start + size)
    real = rows < 5
    yield {
      'image': LOGITS[rows % 5][:, None, None],
      'label': labels[rows % 5],
      'mask': real.astype(np.float32),
      'index': np.where(real, rows, -1),
    }


@pytest.mark.parametrize('size', [1, 2, 3, 8])
def test_every_example_counts_once_for_any_batch_size(size):
  step = jax.jit(classification.make_eval_step(Identity(), loss='softmax'))
  result = classification.predict(step, {}, batches(size), lambda b: b)
  np.testing.assert_array_equal(result.index, range(5))
  np.testing.assert_array_equal(result.predicted, [0, 1, 2, 0, 0])
  np.testing.assert_allclose(
    result.probability, [0.7, 0.8, 0.6, 0.5, 0.9], rtol=1e-5
  )
  metrics = result.metrics(3)
  assert set(metrics) == {'loss', 'accuracy'}
  assert metrics['accuracy'] == 3 / 5
  expected = -np.log([0.7, 0.8, 0.2, 0.5, 0.05]).mean()
  np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
  assert result.class_accuracy(3) == [1.0, 0.5, 0.0]


def test_multiple_labels_per_example():
  rows = np.zeros((5, 3), np.float32)
  rows[:, 0] = rows[2, 2] = 1
  step = classification.make_eval_step(Identity(), loss='sigmoid')
  result = classification.predict(step, {}, batches(5, rows), lambda b: b)
  np.testing.assert_array_equal(result.correct[:, 0], [1, 0, 1, 1, 1])
  # sigmoid(log p) = p / (1 + p).
  np.testing.assert_allclose(result.probability[1], 0.8 / 1.8, rtol=1e-5)
  assert result.class_accuracy(3) == [3 / 5, None, 1.0]
  np.testing.assert_array_equal(result.class_counts(3), [5, 0, 1])
  assert result.metrics(3)['accuracy'] == 4 / 5


def predictions(top, label):
  top = np.array(top)
  return classification.Predictions(
    index=np.arange(len(top)),
    top_classes=top,
    top_probabilities=np.full(top.shape, 0.1),
    label=label,
  )


def test_examples_without_labels_are_ignored():
  label = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
  result = predictions([[2, 0, 1], [0, 1, 2], [0, 1, 2], [1, 0, 2]], label)
  assert result.metrics(3) == {'accuracy': 1 / 2}
  assert result.class_accuracy(3) == [0.0, 0.0, 1.0]
  with pytest.raises(ValueError, match='no example has a label'):
    predictions([[2, 0, 1]], label[1:2]).metrics(3)


def test_top5_accuracy_needs_more_than_five_classes():
  top = [[3, 5, 1, 0, 2], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]]
  result = predictions(top, np.array([3, 0, 5]))
  assert result.metrics(6) == {'accuracy': 1 / 3, 'top5_accuracy': 2 / 3}
  result = predictions(top[1:], np.array([0, 0]))
  assert result.metrics(5) == {'accuracy': 1 / 2}


@pytest.mark.parametrize(('classes', 'kept'), [(2, 2), (5, 5), (9, 5)])
def test_top_classes_are_sorted(classes, kept):
  logits = np.random.default_rng(0).normal(size=(4, classes)).astype('f4')
  top = jax.jit(lambda x: classification.top_classes(x, loss='softmax'))(logits)
  expected = np.argsort(-logits, axis=1)[:, :kept]
  np.testing.assert_array_equal(top['top_classes'], expected)
  shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  np.testing.assert_allclose(
    top['top_probabilities'],
    np.take_along_axis(shares, expected, axis=1),
    rtol=1e-5,
  )


def test_logits_are_projected_to_the_classes_of_the_labels():
  step = classification.make_eval_step(
    Identity(), loss='softmax', project=lambda logits: logits[:, 1:]
  )
  labels = np.array([0, 0, 1, 1, 0], np.int32)
  result = classification.predict(step, {}, batches(5, labels), lambda b: b)
  np.testing.assert_array_equal(result.predicted, [0, 0, 1, 0, 0])
  # Dropped logits have no effect: 0.2 / (0.2 + 0.1).
  np.testing.assert_allclose(result.probability[0], 2 / 3, rtol=1e-5)
  np.testing.assert_allclose(result.loss[0], -np.log(2 / 3), rtol=1e-5)


def test_softmax_has_no_loss_for_multiple_labels():
  rows = np.eye(3, dtype=np.float32)[LABELS]
  step = classification.make_eval_step(Identity(), loss='softmax')
  result = classification.predict(step, {}, batches(2, rows), lambda b: b)
  assert result.metrics(3) == {'accuracy': 3 / 5}


def test_outputs_that_are_not_finite_are_named():
  step = classification.make_eval_step(Identity(), loss='softmax')
  spoiled = list(batches(2))
  spoiled[1]['image'][0, ..., 2] = np.inf
  with pytest.raises(finite.NonFiniteError) as error:
    classification.predict(step, {}, spoiled, lambda b: b)
  assert 'outputs of the model: NaN or infinite values in' in str(error.value)
  for name in ('loss', 'top_probabilities'):
    assert name in str(error.value)
