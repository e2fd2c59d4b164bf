"""Metrics for data with any number of labels per example.

Every class is a binary problem of its own: an example is positive if the class
is among its labels. An example without labels is negative for all classes.
"""

from concurrent import futures
import dataclasses
import functools
import math

from jaxtyping import Bool, Float, Int
import numpy as np

# Names of the metrics in `ClassScores.metrics`.
METRICS = ('mean_average_precision', 'micro_f1', 'macro_f1')
# Most bytes of logits of a split, enough for 1 % of ImageNet-21k. While they
# are gathered, each process needs about three times as many, for the batches,
# the joined logits and the labels.
MAX_BYTES = 16 * 2**30
_CLASSES_AT_ONCE = 64


def num_bytes(num_examples: int, num_classes: int) -> int:
  """Returns the size of the logits of a split, which are float32."""
  return 4 * num_examples * num_classes


@dataclasses.dataclass(frozen=True)
class ClassScores:
  """Average precision and counts of every class.

  Attributes:
    average_precision: average precision; None without positive examples.
    positives: (k,) number of examples with the label.
    predicted: (k,) number of examples for which the label is predicted.
    hits: (k,) number of examples in both.
  """

  average_precision: list[float | None]
  positives: Int[np.ndarray, ' k']
  predicted: Int[np.ndarray, ' k']
  hits: Int[np.ndarray, ' k']

  def metrics(self) -> dict[str, float]:
    """Returns METRICS, in [0, 1]; at least one example needs a label.

    `mean_average_precision` is the mean over the classes with positive
    examples. F1, the harmonic mean of precision and recall, is 2 hits /
    (positives + predicted): `micro_f1` with sums over all classes, `macro_f1`
    as a mean over the classes. Classes with neither positive nor predicted
    examples, where F1 is not defined, are left out of this mean.
    """
    known = [value for value in self.average_precision if value is not None]
    total = self.positives + self.predicted
    defined = total > 0
    f1 = 2 * self.hits[defined] / total[defined]
    return {
      'mean_average_precision': math.fsum(known) / len(known),
      'micro_f1': 2 * int(self.hits.sum()) / int(total.sum()),
      'macro_f1': math.fsum(f1) / len(f1),
    }


def score_classes(
  labels: Bool[np.ndarray, 'n k'],
  logits: Float[np.ndarray, 'n k'],
  threshold: float,
) -> ClassScores:
  """Scores every class.

  Args:
    labels: whether each class is a label of the example.
    logits: one independent score per class.
    threshold: a label is predicted if its probability, the sigmoid of the
      logit, is above this number in (0, 1).
  """
  score = functools.partial(_score_block, labels, logits, _logit(threshold))
  with futures.ThreadPoolExecutor() as pool:  # Sorting releases Python's lock.
    blocks = pool.map(score, range(0, labels.shape[1], _CLASSES_AT_ONCE))
    rows = [row for block in blocks for row in block]
  average_precisions, *counts = zip(*rows, strict=True)
  return ClassScores(list(average_precisions), *map(np.array, counts))


def _score_block(labels, logits, logit, start) -> list[tuple]:
  """Returns the fields of `ClassScores` for each class of a block."""
  block = slice(start, start + _CLASSES_AT_ONCE)
  # Single columns would be read slowly, from distant addresses.
  columns = (np.ascontiguousarray(x[:, block].T) for x in (labels, logits))
  return [
    (
      average_precision(positive, scores),
      np.count_nonzero(positive),
      np.count_nonzero(scores > logit),
      np.count_nonzero(scores[positive] > logit),
    )
    for positive, scores in zip(*columns, strict=True)
  ]


def average_precision(
  positive: Bool[np.ndarray, ' n'], scores: Float[np.ndarray, ' n']
) -> float | None:
  """Returns the average precision of one class; None without positives.

  It is the mean over the positive examples of the precision at each: the share
  of positives among the examples with at least its score. Examples with equal
  scores thus have the same precision, as in scikit-learn's
  `average_precision_score`.
  """
  of_positives = np.sort(scores[positive])
  if not len(of_positives):
    return None
  hits, selected = (
    len(x) - np.searchsorted(x, of_positives)
    for x in (of_positives, np.sort(scores))
  )
  return float(np.mean(hits / selected))


def predicted_labels(
  logits: Float[np.ndarray, ' k'], threshold: float
) -> list[tuple[int, float]]:
  """Returns the labels with a probability above a threshold in (0, 1).

  These are pairs of class and probability, in descending order of probability.
  """
  classes = np.flatnonzero(logits > _logit(threshold))
  classes = classes[np.argsort(-logits[classes], kind='stable')]
  return [(int(k), 1 / (1 + math.exp(-logits[k]))) for k in classes]


def _logit(probability: float) -> float:
  return math.log(probability / (1 - probability))
