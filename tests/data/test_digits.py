"""The built-in digits: the split rule and the values."""

import numpy as np
from sklearn import datasets

from vit_jax.data import digits


def test_split_is_a_fixed_stratified_partition():
  train, test = digits.open_digits('train'), digits.open_digits('test')
  assert (train.num_examples, test.num_examples) == (1442, 355)
  assert sorted([*train.ids, *test.ids]) == list(range(1797))
  counts = np.bincount(datasets.load_digits().target)
  np.testing.assert_array_equal(np.bincount(test.labels), counts // 5)
  # The first fifth zero of scikit-learn's table: zeros are 0, 10, 20, 30, 36.
  assert 36 in test.ids
  assert test.describe(0) == f'digits#{test.ids[0]}'


def test_pixels_and_labels_match_scikit_learn():
  table = datasets.load_digits()
  source = digits.open_digits('train[100:200]')
  raw, label = source.load({'index': np.int64(7)})
  row = source.ids[7]
  assert label == table.target[row]
  assert raw.shape == (8, 8, 1)
  np.testing.assert_array_equal(
    raw[..., 0], np.round(table.images[row] * 15.9375)
  )
  assert source.class_names == tuple('0123456789')


def test_slices_contain_all_classes():
  assert set(digits.open_digits('train[:5%]').labels) == set(range(10))
  assert set(digits.open_digits('test[-15%:]').labels) == set(range(10))


def test_subset_depends_on_the_seed():
  first = digits.open_digits('train', subset=50, seed=0)
  assert first.num_examples == len(set(first.ids)) == 50
  assert set(first.ids) <= set(digits.open_digits('train').ids)
  again = digits.open_digits('train', subset=50, seed=0)
  np.testing.assert_array_equal(first.ids, again.ids)
  other = digits.open_digits('train', subset=50, seed=1)
  assert set(first.ids) != set(other.ids)
