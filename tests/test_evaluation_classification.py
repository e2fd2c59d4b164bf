import flax.linen as nn
import jax
import numpy as np
import pytest

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


class Given(nn.Module):
  """Takes its logits from the image."""

  @nn.compact
  def __call__(self, images, *, train):
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
def test_every_example_counts_once_whatever_the_batch(size):
  step = jax.jit(
    classification.make_eval_step(Given(), num_classes=3, loss='softmax')
  )
  result = classification.predict(step, {}, batches(size), lambda b: b)
  np.testing.assert_array_equal(result.index, range(5))
  np.testing.assert_array_equal(result.predicted, [0, 1, 2, 0, 0])
  np.testing.assert_allclose(
    result.probability, [0.7, 0.8, 0.6, 0.5, 0.9], rtol=1e-5
  )
  metrics = result.metrics()
  assert metrics['accuracy'] == 3 / 5
  expected = -np.log([0.7, 0.8, 0.2, 0.5, 0.05]).mean()
  np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
  assert result.class_accuracy(3) == [1.0, 0.5, 0.0]


def test_several_labels():
  rows = np.zeros((5, 3), np.float32)
  rows[:, 0] = rows[2, 2] = 1
  step = classification.make_eval_step(Given(), num_classes=3, loss='sigmoid')
  result = classification.predict(step, {}, batches(5, rows), lambda b: b)
  np.testing.assert_array_equal(result.correct, [1, 0, 1, 1, 1])
  # sigmoid(log p) = p / (1 + p).
  np.testing.assert_allclose(result.probability[1], 0.8 / 1.8, rtol=1e-5)
  assert result.class_accuracy(3) == [3 / 5, None, 1.0]
