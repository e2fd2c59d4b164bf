"""What a model says of the examples of a split: by class, and where it errs."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from vit_jax.page import charts, content
from vit_jax.workdir import predictions

MOST_CLASSES = 40  # Of a confusion matrix.
_MOST_ROWS = 200  # Of a table.


def is_right(line: predictions.Line) -> bool:
  """Whether the predicted class is the label, or one of them."""
  label = line['label']
  return line['predicted'] in (label if isinstance(label, list) else [label])


def mistakes(lines: Sequence[predictions.Line]) -> list[int]:
  """Numbers of the lines that are wrong, the most confident first."""
  wrong = [
    k for k, line in enumerate(lines) if line['label'] and not is_right(line)
  ]
  return sorted(wrong, key=lambda k: -lines[k]['probability'])


def by_class(
  split: str,
  lines: Sequence[predictions.Line],
  accuracy: Mapping[str, float | None],
) -> list[content.Part]:
  """Accuracy of each class, and what is taken for what.

  Args:
    split: what it is called.
    lines: of its predictions.
    accuracy: of each class, in their order; None where there is no image.
  """
  if any(isinstance(line['label'], list) for line in lines):
    # With several labels, nothing is taken for another.
    return [_table(split, accuracy)]
  pairs = collections.Counter((x['label'], x['predicted']) for x in lines)
  images = collections.Counter(line['label'] for line in lines)
  wrong = [(a, b, n) for (a, b), n in pairs.most_common() if a != b]
  most_often = {a: f'{b} ({n})' for a, b, n in reversed(wrong)}
  return [
    _table(
      split,
      accuracy,
      ('images', {name: str(n) for name, n in images.items()}),
      ('most often taken for', most_often),
    ),
    content.Charts([_matrix(split, pairs, list(accuracy))]),
    content.Table(
      ('label', 'predicted', 'times'),
      [(a, b, str(n)) for a, b, n in wrong[:_MOST_ROWS]],
      shown=10,
      folded='rarer kinds of mistakes',
    ),
  ]


def _table(split, accuracy, *columns) -> content.Table:
  """From the least accurate class on."""
  known = [item for item in accuracy.items() if item[1] is not None]
  rows = [
    (name, content.Bar(share), *(texts.get(name, '') for _, texts in columns))
    for name, share in sorted(known, key=lambda item: item[1])
  ]
  return content.Table(
    (f'class of {split}', 'accuracy', *(heading for heading, _ in columns)),
    rows[:_MOST_ROWS],
    shown=25,
    folded='more accurate classes',
  )


def _matrix(split, pairs, names) -> content.Picture:
  """Of all classes, or of those with the most mistakes."""
  title = f'Confusion matrix of {split}'
  if len(names) > MOST_CLASSES:
    mistakes = collections.Counter()
    for (label, predicted), number in pairs.items():
      if label != predicted:
        mistakes[label] += number
        mistakes[predicted] += number
    most = {name for name, _ in mistakes.most_common(MOST_CLASSES)}
    title += f', the {len(most)} of {len(names)} classes most often confused'
    names = [name for name in names if name in most]
  counts = np.array([[pairs[a, b] for b in names] for a in names], np.int64)
  return charts.confusion(title, counts, names)
