"""The built-in data: 1,797 handwritten digits of 8x8 pixels.

scikit-learn contains the test half of the UCI dataset "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak, 1998). Every fifth example of a class,
in the stored order, is a test example: 1,442 for training, 355 for testing.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib
from typing import Any

import numpy as np

from vit_jax.data import splits
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.source import RandomAccessSource, digest


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DigitsSource(RandomAccessSource):
  """Digits held in memory, images (n, 8, 8, 1) uint8 and labels (n,) int32."""

  images: np.ndarray
  labels: np.ndarray
  ids: np.ndarray  # Row of each example in scikit-learn's dataset.

  def load(self, record):  # noqa: D102
    index = record['index']
    return tf.gather(self.images, index), tf.gather(self.labels, index)

  def describe(self, index: int) -> str:  # noqa: D102
    return f'digits#{self.ids[index]}'

  def stable_id(self, index: int) -> str:  # noqa: D102
    return str(self.ids[index])

  def fingerprint(self) -> dict[str, Any]:  # noqa: D102
    return {'examples': digest(np.sort(self.ids).astype('<i8').tobytes())}


def open_digits(
  split: str,
  *,
  subset: int = 0,
  seed: int = 0,
  exclude: Exclusions | None = None,
) -> DigitsSource:
  """Opens `train`, `test`, or parts and sums of them (see `splits.select`).

  Raises:
    ValueError: if the split is unknown or empty, or `exclude` does not match
      it.
  """
  pixels, labels = _read_table()
  in_test = np.zeros(len(labels), bool)
  for digit in range(10):
    in_test[np.flatnonzero(labels == digit)[4::5]] = True
  ids = np.array(
    sorted(range(len(in_test)), key=lambda i: splits.order_key('order', str(i)))
  )
  parts = {'train': ids[~in_test[ids]], 'test': ids[in_test[ids]]}
  ids = splits.select(split, parts, 'digits')
  if exclude:
    excluded = np.flatnonzero(np.isin(ids.astype(str), list(exclude.ids)))
    ids = ids[exclude.remaining(excluded, len(ids))]
  if subset:
    ids = ids[splits.random_subset(subset, len(ids), seed, f'digits {split}')]
  pixels = pixels[ids] * (255 / 16)  # Stored as 0 to 16.
  return DigitsSource(
    name='digits',
    split=split,
    num_examples=len(ids),
    class_names=tuple('0123456789'),
    images=np.round(pixels).astype(np.uint8),
    labels=labels[ids].astype(np.int32),
    ids=ids,
  )


def _read_table() -> tuple[np.ndarray, np.ndarray]:
  """Returns all images (n, 8, 8, 1) and labels (n,), in the stored order.

  Reads scikit-learn's file directly, since importing scikit-learn takes a
  second.
  """
  package = importlib.util.find_spec('sklearn')
  file = pathlib.Path(package.origin).parent / 'datasets/data/digits.csv.gz'
  table = np.loadtxt(file, np.uint8, delimiter=',')
  return table[:, :-1].reshape(-1, 8, 8, 1), table[:, -1]
