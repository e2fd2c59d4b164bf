"""Split expressions, with every boundary worked out by hand."""

import numpy as np
import pytest

from vit_jax.data import splits

PARTS = {'train': np.arange(1437), 'val': np.arange(2000, 2010)}


@pytest.mark.parametrize(
  ('split', 'start', 'stop'),
  [
    ('train', 0, 1437),
    ('train[:98%]', 0, 1408),  # 98 * 1437 // 100 = 1408.26, rounded down
    ('train[98%:]', 1408, 1437),
    ('train[:800]', 0, 800),
    ('train[100:200]', 100, 200),
    ('train[-200:]', 1237, 1437),
    ('train[:-10%]', 0, 1293),  # -143.7, rounded down to -144
    ('train[90%:]', 1293, 1437),
    ('val[:]', 2000, 2010),
  ],
)
def test_slices(split, start, stop):
  np.testing.assert_array_equal(
    splits.select(split, PARTS, 'x'), np.arange(start, stop)
  )


def test_sums_keep_their_order():
  chosen = splits.select('val[8:] + train[:2]', PARTS, 'x')
  np.testing.assert_array_equal(chosen, [2008, 2009, 0, 1])


@pytest.mark.parametrize(
  ('split', 'message'),
  [
    ('test', r"no split 'test'; splits: train \(1437\), val \(10\)"),
    ('train[::2]', r"cannot read split 'train\[::2\]'.*Splits: train"),
    ('train[:50', 'cannot read split'),
    ('', 'cannot read split'),
    ('train[:1438]', "exceeds the split 'train' of size 1437"),
    ('val[-11:]', "exceeds the split 'val' of size 10"),
    ('train[200:100]', 'contains no examples'),
    ('val[:5%]', 'contains no examples'),
  ],
)
def test_mistakes_are_explained(split, message):
  with pytest.raises(ValueError, match=message):
    splits.select(split, PARTS, 'x')


def test_random_subset():
  chosen = splits.random_subset(30, 1437, 0, 'x')
  assert len(set(chosen)) == 30
  assert chosen.max() < 1437
  assert (np.diff(chosen) > 0).all()
  np.testing.assert_array_equal(chosen, splits.random_subset(30, 1437, 0, 'x'))
  assert set(chosen) <= set(splits.random_subset(31, 1437, 0, 'x'))
  assert set(chosen) != set(splits.random_subset(30, 1437, 1, 'x'))
  np.testing.assert_array_equal(splits.random_subset(4, 4, 9, 'x'), range(4))
  with pytest.raises(ValueError, match='has 4 examples.*got 5'):
    splits.random_subset(5, 4, 0, 'x')


def test_order_key_never_changes():
  # Recorded here: another value would reshuffle every user's folders.
  assert splits.order_key('split', 'daisy/a.jpg').hex() == 'c1a390b86daf33b5'
  assert splits.order_key('order', 'daisy/a.jpg') != splits.order_key(
    'split', 'daisy/a.jpg'
  )
  # The same holds for subsets.
  assert splits.random_subset(3, 10, 0, 'x').tolist() == [2, 4, 8]
