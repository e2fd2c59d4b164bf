"""ImageNet-ReaL: reassessed labels of ImageNet's validation images.

Beyer et al. (2020), "Are we done with ImageNet?", arXiv 2006.07159. Each image
has any number of labels; those without one are no part of the accuracy. With
`labels` in place of ImageNet's own, `Predictions.metrics` gives that accuracy.
"""

from collections.abc import Sequence
import json
import os
import re

from etils import epath
from jaxtyping import Bool
import numpy as np

NUM_CLASSES = 1000
_NUMBERED = re.compile(r'ILSVRC2012_val_(\d{8})(?!\d)')


def read(path: str | os.PathLike[str]) -> list[list[int]]:
  """The labels of each image, from the published `real.json`.

  Item i is of ILSVRC2012_val_{i + 1:08d}.JPEG.

  Raises:
    ValueError: if the file is missing or does not hold lists of classes.
  """
  path = epath.Path(path)
  expected = (
    'expected the real.json of github.com/google-research/reassessed-imagenet'
  )
  if not path.exists():
    raise ValueError(f'there is no file {os.fspath(path)!r}; {expected}.')
  try:
    table = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f'{path} is not JSON ({error}); {expected}.') from error
  if not isinstance(table, list) or not all(map(_are_classes, table)):
    raise ValueError(
      f'{path} is not a list of lists of class numbers below {NUM_CLASSES};'
      f' {expected}.'
    )
  return table


def _are_classes(labels):
  return isinstance(labels, list) and all(
    isinstance(k, int) and 0 <= k < NUM_CLASSES for k in labels
  )


def labels(
  file_names: Sequence[str], table: Sequence[Sequence[int]]
) -> Bool[np.ndarray, 'n k']:
  """Which of ImageNet's 1,000 classes each image shows, by its file's name.

  Args:
    file_names: such as ILSVRC2012_val_00000001.JPEG.
    table: labels of all images, as `read` returns them.

  Raises:
    ValueError: if a name is none of ImageNet's validation images.
  """
  rows = np.zeros((len(file_names), NUM_CLASSES), bool)
  for row, name in zip(rows, file_names, strict=True):
    match = _NUMBERED.match(name)
    number = int(match[1]) if match else 0
    if not 1 <= number <= len(table):
      raise ValueError(
        f'{name!r} is no validation image of ImageNet, which ReaL labels: these'
        ' are called ILSVRC2012_val_00000001.JPEG to'
        f' ILSVRC2012_val_{len(table):08d}.JPEG.'
      )
    row[table[number - 1]] = True
  return rows
