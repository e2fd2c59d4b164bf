"""Predictions for every example of a split: `predictions_SPLIT.jsonl`."""

from collections.abc import Callable, Mapping, Sequence
import logging
from typing import Any

from etils import epath
from jaxtyping import Bool, Float, Int
import numpy as np

from vit_jax.evaluation import classification, multi_label
from vit_jax.workdir import files

_log = logging.getLogger(__name__)

Line = Mapping[str, Any]


def write(
  workdir: epath.Path,
  split: str,
  predictions: classification.Predictions,
  class_names: Sequence[str],
  describe: Callable[[int], str],
  label_names: Sequence[str] | None = None,
) -> None:
  """Writes one JSON line per example: its label and the prediction, by name.

  With logits, it also has `predicted_labels`, see `labels_above`.

  Args:
    workdir: folder of the run.
    split: name of the split in metrics.
    predictions: predictions for its examples.
    class_names: names of the classes of the model.
    describe: returns what identifies an example, such as its file name, from
      its index.
    label_names: names of the labels, if they are not the classes of the model.
  """
  label_names = label_names or class_names

  def line(i):
    fields = {
      'example': describe(int(p.index[i])),
      'label': named_labels(p.label[i], label_names),
      'predicted': class_names[p.predicted[i]],
      'probability': round(float(p.probability[i]), 4),
    }
    if p.logits is not None:
      labels = labels_above(p.threshold, p.logits[i], class_names)
      fields['predicted_labels'] = labels
    return files.json_text(fields)

  p = predictions
  lines = list(map(line, range(len(p.index))))
  path = workdir / files.SPLIT_PREDICTIONS.format(split)
  files.write_text(path, '\n'.join(lines) + '\n')
  _log.info('%d predictions in %s', len(lines), path)


def named_labels(
  label: Int[np.ndarray, ''] | Bool[np.ndarray, ' k'], names: Sequence[str]
) -> str | list[str]:
  """Returns the name of a label, or those of all labels of an example."""
  if label.ndim == 0:
    return names[label]
  return [names[k] for k in label.nonzero()[0]]


def labels_above(
  threshold: float, logits: Float[np.ndarray, ' k'], class_names: Sequence[str]
) -> list[Line]:
  """Returns `class` and `probability` of the labels above a threshold.

  The most probable label comes first.
  """
  return [
    {'class': class_names[k], 'probability': round(probability, 4)}
    for k, probability in multi_label.predicted_labels(logits, threshold)
  ]
