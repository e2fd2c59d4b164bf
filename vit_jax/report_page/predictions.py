"""What a model says of the examples of a split: by class, and where it errs."""

from collections.abc import Mapping, Sequence
import json
from typing import Any

from etils import epath
from jaxtyping import Int
import numpy as np

from vit_jax.report_page import charts, content

MOST_CLASSES = 40  # Of a confusion matrix.
_MOST_MISTAKES = 10  # Kinds of them in a table.

Line = Mapping[str, Any]


def read(path: epath.Path) -> list[Line]:
  """The lines of a `predictions_*.jsonl`."""
  return [json.loads(line) for line in path.read_text().splitlines()]


def is_right(line: Line) -> bool:
  """Whether the predicted class is the label, or one of them."""
  label = line['label']
  return line['predicted'] in (label if isinstance(label, list) else [label])


def mistakes(lines: Sequence[Line]) -> list[int]:
  """Numbers of the lines that are wrong, the most confident first."""
  wrong = [
    k for k, line in enumerate(lines) if line['label'] and not is_right(line)
  ]
  return sorted(wrong, key=lambda k: -lines[k]['probability'])


def confusion(
  lines: Sequence[Line], names: Sequence[str]
) -> Int[np.ndarray, 'k k']:
  """Numbers of examples with one label, by label and prediction."""
  place = {name: k for k, name in enumerate(names)}
  counts = np.zeros((len(names), len(names)), np.int64)
  for line in lines:
    counts[place[line['label']], place[line['predicted']]] += 1
  return counts


def by_class(
  split: str, lines: Sequence[Line], names: Sequence[str]
) -> list[content.Part]:
  """Accuracy of each class, and the confusion matrix.

  Args:
    split: what it is called.
    lines: of its predictions.
    names: of all classes.
  """
  if any(isinstance(line['label'], list) for line in lines):
    return []  # With several labels, nothing is taken for another.
  counts = confusion(lines, names)
  kinds = charts.commonest_mistakes(counts, names)
  most_often = {}
  for label, predicted, count in kinds:
    most_often.setdefault(label, f'{predicted} ({count})')
  images = counts.sum(axis=1)
  present = [k for k in range(len(names)) if images[k]]
  present.sort(key=lambda k: counts[k, k] / images[k])
  rows = [
    (
      names[k],
      str(images[k]),
      content.Bar(counts[k, k] / images[k]),
      most_often.get(names[k], ''),
    )
    for k in present
  ]
  head = (f'class of {split}', 'images', 'accuracy', 'most often taken for')
  return [
    content.Table(head, rows, shown=25, folded='more accurate classes'),
    content.Charts([_matrix(split, counts, names)]),
    content.Table(
      ('label', 'predicted', 'times'),
      [(a, b, str(count)) for a, b, count in kinds],
      shown=_MOST_MISTAKES,
      folded='rarer kinds of mistakes',
    ),
  ]


def _matrix(split, counts, names):
  """Of all classes, or of those with the most mistakes."""
  title = f'Confusion matrix of {split}'
  if len(names) > MOST_CLASSES:
    wrong = counts - np.diag(np.diag(counts))
    involved = wrong.sum(axis=0) + wrong.sum(axis=1)
    kept = np.sort(np.argsort(-involved, kind='stable')[:MOST_CLASSES])
    title += f', the {MOST_CLASSES} of {len(names)} classes most confused'
    counts = counts[np.ix_(kept, kept)]
    names = [names[k] for k in kept]
  return charts.confusion(title, counts, names)
