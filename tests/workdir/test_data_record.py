"""The record of a run's data, and the changes that it reveals."""

import pathlib
import shutil

import numpy as np
from PIL import Image
import pytest

from vit_jax.data import registry
from vit_jax.workdir import data_record


@pytest.fixture
def photos(tmp_path):
  """Ten photos of each of three classes, all of different sizes."""
  rng = np.random.default_rng(0)
  for k in range(60):
    name = 'abc'[k % 3]
    split = 'train' if k < 30 else 'test'
    path = tmp_path / 'photos' / split / name / f'{k}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (4, 4 + k, 3), np.uint8)).save(path)
  return tmp_path / 'photos'


def record(folder, split='train'):
  data = f'folder:{folder}'
  test = registry.open_source(data, 'test')
  return data_record.describe(registry.open_source(data, split), {'test': test})


def test_a_copy_elsewhere_is_the_same_data(photos, tmp_path):
  shutil.copytree(photos, tmp_path / 'elsewhere' / 'a')
  before = record(photos)
  assert record(tmp_path / 'elsewhere' / 'a') == before
  assert before['train']['num_examples'] == 30
  assert before['train']['class_names'] == ['a', 'b', 'c']
  # A sum of slices has all examples, in another order.
  assert record(photos, 'train[10:]+train[:10]') == before


CHANGES = {
  "renamed classes: 'b' is now 'z'": lambda p: [
    (p / split / 'b').rename(p / split / 'z') for split in ('train', 'test')
  ],
  "removed classes: 'c'; training: 30 -> 20 examples; split 'test': 30 -> 20"
  ' examples': lambda p: [shutil.rmtree(x) for x in p.glob('*/c')],
  "training: 30 -> 31 examples; training: 10 -> 11 images of 'a'": (
    lambda p: shutil.copy(p / 'train/b/1.png', p / 'train/a/x.png')
  ),
  "split 'test': 30 -> 29 examples; split 'test': 10 -> 9 images of 'b'": (
    lambda p: (p / 'test/b/31.png').unlink()
  ),
  "training: files of 'a' differ": (
    lambda p: shutil.copy(p / 'test/a/30.png', p / 'train/a/0.png')
  ),
  "training: files of 'a' differ, files of 'b' differ": (
    lambda p: [
      (p / 'train/a/0.png').rename(p / 'train/b/0.png'),
      (p / 'train/b/1.png').rename(p / 'train/a/1.png'),
    ]
  ),
}


@pytest.mark.parametrize('message', CHANGES)
def test_changes_of_folders(message, photos):
  before = record(photos)
  CHANGES[message](pathlib.Path(photos))
  assert '; '.join(data_record.changes(before, record(photos))) == message


def test_other_changes():
  before = {
    'train': {
      'class_names': ['a', 'b'],
      'num_examples': 9,
      'version': 'cats/1.0.0',
    },
    'evals': {},
  }
  now = {**before, 'train': {**before['train'], 'version': 'cats/2.0.0'}}
  assert data_record.changes(before, now) == [
    "training: version 'cats/1.0.0' -> 'cats/2.0.0'"
  ]
  now = {**before, 'train': {**before['train'], 'class_names': ['b', 'a']}}
  assert data_record.changes(before, now) == ['classes in another order']
  assert not data_record.changes({}, before)


def test_digits_and_subsets():
  def examples(split, **options):
    return registry.open_source('digits', split, **options).fingerprint()

  whole = examples('train')
  assert whole == examples('train') != examples('train[:100]')
  assert examples('train', subset=9) != examples('train', subset=9, seed=1)
