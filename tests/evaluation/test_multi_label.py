"""Multi-label metrics by hand, and as scikit-learn computes them."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

import runs
import scored
from vit_jax.evaluation import multi_label


def expected():
  logits, labels = scored.scores_and_labels()
  some = labels.any(axis=0)
  predicted = 1 / (1 + np.exp(-logits.astype(np.float64))) > scored.THRESHOLD
  f1 = functools.partial(
    sklearn_metrics.f1_score, labels, predicted, zero_division=np.nan
  )
  by_class = np.full(scored.CLASSES, np.nan)
  by_class[some] = sklearn_metrics.average_precision_score(
    labels[:, some], logits[:, some], average=None
  )
  return {
    'by_class': by_class,
    'mean_average_precision': np.mean(by_class[some]),
    'micro_f1': f1(average='micro'),
    'macro_f1': f1(average='macro'),
  }


def assert_as_expected(result):
  for name, values in expected().items():
    np.testing.assert_allclose(
      np.array(result[name], float), values, rtol=0, atol=1e-9, err_msg=name
    )


@pytest.mark.parametrize('size', [1, 7, 64])
def test_as_in_scikit_learn(size):
  result = scored.measure(scored.batches(size))
  assert_as_expected(result)
  assert result['by_class'][3] is None
  # Accuracy still ignores examples without labels.
  logits, labels = scored.scores_and_labels()
  hits = labels[np.arange(scored.EXAMPLES), logits.argmax(axis=1)]
  assert result['accuracy'] == hits.sum() / (scored.EXAMPLES - 1)


def test_by_hand():
  labels = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 0]], bool)
  logits = np.array([[3, 0, -1], [2, -1, -1], [2, 1, -1], [-1, 2, -1]], 'f4')
  scores = multi_label.score_classes(labels, logits, 0.5)
  # By descending score: positive; one of two; positive. Then positive second.
  assert scores.average_precision == [
    pytest.approx((1 + 2 / 3 + 3 / 4) / 3), 1 / 2, None,
  ]  # fmt: skip
  # Hits 2 of 3 positives and 3 predicted; 1 of 1 and 2; 0 of 0 and 0.
  assert scores.metrics() == {
    'mean_average_precision': pytest.approx((29 / 36 + 1 / 2) / 2),
    'micro_f1': 2 * 3 / (3 + 3 + 1 + 2),
    'macro_f1': pytest.approx((4 / 6 + 2 / 3) / 2),
  }


def test_predicted_labels_are_sorted():
  logits = np.array([-1, 0.5, 3, 0, 0.5], np.float32)
  labels = multi_label.predicted_labels(logits, 0.5)
  assert [k for k, _ in labels] == [2, 1, 4]
  assert labels[0][1] == pytest.approx(1 / (1 + np.exp(-3)))
  assert len(multi_label.predicted_labels(logits, 0.2)) == 5
  assert not multi_label.predicted_labels(logits, 0.99)


def test_several_processes(tmp_path):
  address = f'127.0.0.1:{runs.free_port()}'
  started = [
    subprocess.Popen(
      [sys.executable, scored.__file__, address, str(index), tmp_path],
      env=os.environ | {'PYTHONPATH': str(runs.ROOT)},
    )
    for index in range(2)
  ]
  assert [process.wait(timeout=120) for process in started] == [0, 0]
  for index in range(2):
    assert_as_expected(json.loads((tmp_path / f'{index}.json').read_text()))
