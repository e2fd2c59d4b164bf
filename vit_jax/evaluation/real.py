"""ImageNet-ReaL: reassessed labels of the ImageNet validation images.

Beyer et al. (2020), "Are we done with ImageNet?", arXiv 2006.07159. An image
has any number of labels; accuracy ignores images without labels.
`Predictions.metrics` computes it if `labels` replace those of ImageNet.
"""

from collections.abc import Sequence
import json
import os
import re

from jaxtyping import Bool
import numpy as np

from vit_jax.checkpoints import location, regular_file

NUM_CLASSES = 1000
_NUMBERED = re.compile(r'ILSVRC2012_val_(\d{8})(?!\d)')


def read(path: str | os.PathLike[str]) -> list[list[int]]:
  """Returns the labels of all images from the published `real.json`.

  Item i belongs to ILSVRC2012_val_{i + 1:08d}.JPEG.

  Raises:
    ValueError: if the file is missing or does not contain lists of classes.
  """
  path = location.expand(path)
  expected = (
    'expected the real.json of github.com/google-research/reassessed-imagenet'
  )
  if not path.exists():
    raise ValueError(f'no such file {os.fspath(path)!r}; {expected}.')
  try:
    table = json.loads(regular_file.read_text(path))
  except (ValueError, RecursionError) as error:
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
  """Returns the labels of images as rows over the 1,000 ImageNet classes.

  Args:
    file_names: names such as ILSVRC2012_val_00000001.JPEG.
    table: labels of all images, as returned by `read`.

  Raises:
    ValueError: if a name is not that of an ImageNet validation image.
  """
  rows = np.zeros((len(file_names), NUM_CLASSES), bool)
  for row, name in zip(rows, file_names, strict=True):
    match = _NUMBERED.match(name)
    number = int(match[1]) if match else 0
    if not 1 <= number <= len(table):
      raise ValueError(
        f'{name!r} is not an ImageNet validation image; expected names from'
        ' ILSVRC2012_val_00000001.JPEG to'
        f' ILSVRC2012_val_{len(table):08d}.JPEG.'
      )
    row[table[number - 1]] = True
  return rows
