"""The predictions for every example of a split: `predictions_SPLIT.jsonl`."""

from collections.abc import Callable, Mapping, Sequence
import json
import logging
from typing import Any

from etils import epath

from vit_jax.evaluation import classification
from vit_jax.workdir import files

_log = logging.getLogger(__name__)

Line = Mapping[str, Any]


def write(
  path: epath.Path,
  predictions: classification.Predictions,
  class_names: Sequence[str],
  describe: Callable[[int], str],
  label_names: Sequence[str] | None = None,
) -> None:
  """A JSON line an example: what it is, its label, what the model says.

  Args:
    path: of the file.
    predictions: of a split.
    class_names: of the classes that the model chooses among.
    describe: from an index to what a person can find the example by.
    label_names: of the labels, where they are no such classes.
  """
  label_names = label_names or class_names

  def named(label):
    if label.ndim == 0:
      return label_names[label]
    return [label_names[k] for k in label.nonzero()[0]]

  p = predictions
  lines = [
    json.dumps(
      {
        'example': describe(int(p.index[i])),
        'label': named(p.label[i]),
        'predicted': class_names[p.predicted[i]],
        'probability': round(float(p.probability[i]), 4),
      }
    )
    for i in range(len(p.index))
  ]
  files.write_text(path, '\n'.join(lines) + '\n')
  _log.info('%d predictions, by class name, in %s', len(lines), path)


def read(path: epath.Path) -> list[Line]:
  """Returns the lines of a predictions file."""
  return [json.loads(line) for line in path.read_text().splitlines()]
