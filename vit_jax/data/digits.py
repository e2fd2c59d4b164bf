"""The embedded data: 1,797 handwritten digits of 8x8 pixels.

scikit-learn carries the test half of the UCI set "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak, 1998). Of every five examples of a
class, in their stored order, the fifth is a test example: 1,442 to train on,
355 to test.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from vit_jax.data import splits
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.source import IndexedSource


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DigitsSource(IndexedSource):
  """Digits held in memory, images (n, 8, 8, 1) uint8 and labels (n,) int32."""

  images: np.ndarray
  labels: np.ndarray
  ids: np.ndarray  # Row of each example in scikit-learn's table.

  def load(self, record):  # noqa: D102
    index = record['index']
    return tf.gather(self.images, index), tf.gather(self.labels, index)

  def describe(self, example_id: int) -> str:  # noqa: D102
    return f'digits#{self.ids[example_id]}'

  def stable_id(self, index: int) -> str:  # noqa: D102
    return str(self.ids[index])


def open_digits(
  split: str,
  *,
  subset: int = 0,
  seed: int = 0,
  exclude: Exclusions | None = None,
) -> DigitsSource:
  """Opens `train`, `test`, or split arithmetic over them.

  Raises:
    ValueError: if the split is unknown or empty, or what to leave out does not
      fit it.
  """
  from sklearn import datasets  # Takes a second; other data needs none of it.

  table = datasets.load_digits()
  in_test = np.zeros(len(table.target), bool)
  for digit in range(10):
    in_test[np.flatnonzero(table.target == digit)[4::5]] = True
  ids = np.array(
    sorted(range(len(in_test)), key=lambda i: splits.order_key('order', str(i)))
  )
  parts = {'train': ids[~in_test[ids]], 'test': ids[in_test[ids]]}
  ids = splits.select(split, parts, 'digits')
  if exclude:
    left_out = np.flatnonzero(np.isin(ids.astype(str), list(exclude.ids)))
    ids = ids[exclude.kept(left_out, len(ids))]
  if subset:
    ids = ids[splits.random_subset(subset, len(ids), seed, f'digits {split}')]
  pixels = table.images[ids][..., None] * (255 / 16)  # Stored as 0 to 16.
  return DigitsSource(
    name='digits',
    split=split,
    num_examples=len(ids),
    class_names=tuple(str(name) for name in table.target_names),
    images=np.round(pixels).astype(np.uint8),
    labels=table.target[ids].astype(np.int32),
    ids=ids,
  )
