"""Excluding examples from every kind of source."""

import itertools
import json
import logging

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from vit_jax.data import exclusions, pipeline, preprocess, registry

AUGMENT = preprocess.train_transform(
  image_size=(4, 4), crop='resize', flip=True
)


@pytest.fixture(scope='module')
def tfds_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tfds')
  rows = [
    (i, {'image': np.full((4, 4, 3), 7 * i, np.uint8), 'label': i % 3})
    for i in range(35)
  ]
  tfds.dataset_builders.store_as_tfds_dataset(
    name='tiny',
    version='1.0.0',
    features=tfds.features.FeaturesDict(
      {
        'image': tfds.features.Image(shape=(None, None, 3)),
        'label': tfds.features.ClassLabel(num_classes=3),
      }
    ),
    split_datasets={'train': rows, 'test': rows[:9]},
    data_dir=folder,
    download_config=tfds.download.DownloadConfig(num_shards=3),
  )
  return folder


@pytest.fixture
def folder(tmp_path):
  for i in range(35):
    path = tmp_path / 'photos' / 'abc'[i % 3] / f'{i}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (4, 4), (7 * i,) * 3).save(path)
  return tmp_path / 'photos'


@pytest.fixture(params=['digits', 'folder', 'split folder', 'tfds'])
def opened(request, tmp_path):
  """A function from a split and options to a source."""
  options = {}
  if request.param == 'digits':
    name = 'digits'
  elif request.param == 'tfds':
    name = 'tfds:tiny'
    options['data_dir'] = request.getfixturevalue('tfds_dir')
  else:
    path = request.getfixturevalue('folder')
    if request.param == 'split folder':
      path.rename(tmp_path / 'train')
      path = tmp_path
    name = f'folder:{path}'
  return lambda split='train', **more: registry.open_source(
    name, split, **options, **more
  )


def ids(source):
  return [source.stable_id(i) for i in range(source.num_examples)]


def write(path, source, examples, **changes):
  content = exclusions.content(source.name, source.split, examples) | changes
  path.write_text(json.dumps(content))
  return str(path)


def images(source):
  """Returns every example by its id."""
  return {
    source.stable_id(int(record['index'])): source.load(record)
    for record in source.ordered()
  }


def test_ids_are_the_same_in_every_part(opened):
  whole = opened()
  names = ids(whole)
  assert len(set(names)) == len(names)
  for split in ('train[:40%]', 'train[40%:]'):
    part = opened(split)
    in_part = images(part) if part.num_examples < 100 else {}
    assert set(ids(part)) < set(names)
    for name, (raw, label) in in_part.items():
      other = whole.load(
        next(r for r in whole.ordered() if name == names[int(r['index'])])
      )
      assert np.array_equal(raw, other[0])
      assert label == other[1]
  assert ids(opened('train[:40%]')) + ids(opened('train[40%:]')) == names


def test_listed_examples_are_excluded_from_the_stream(opened, tmp_path, caplog):
  whole = opened()
  names = ids(whole)
  listed = names[1:-1:3]
  path = write(tmp_path / 'list.json', whole, listed)
  with caplog.at_level(logging.INFO, logger='vit_jax'):
    rest = opened(exclude=path)
  expected = [name for name in names if name not in listed]
  assert ids(rest) == expected
  assert rest.num_examples == len(expected)
  assert f'excluded {len(listed)} of {len(names)} examples' in caplog.text
  if rest.num_examples > 100:  # Digits.
    return
  all_images, remaining = images(whole), images(rest)
  assert list(remaining) == expected
  for name, (raw, label) in remaining.items():
    assert np.array_equal(raw, all_images[name][0])
    assert label == all_images[name][1]
  # Three epochs of the remaining examples, also resumed in the middle.
  count = rest.num_examples
  stream = list(rest.shuffled(seed=3, start=0).take(3 * count))
  for epoch in range(3):
    seen = [int(r['index']) for r in stream[epoch * count :][:count]]
    assert sorted(seen) == list(range(count))
  batches = [
    list(
      itertools.islice(
        pipeline.train_batches(
          rest, AUGMENT, batch_size=8, seed=0, start_step=step
        ),
        8 - step,
      )
    )
    for step in (0, 5)
  ]
  for batch, again in zip(batches[0][5:], batches[1], strict=True):
    for key in batch:
      np.testing.assert_array_equal(batch[key], again[key])


def test_list_applies_to_a_part_and_a_subset(opened, tmp_path):
  whole = opened()
  names = ids(whole)
  path = write(tmp_path / 'list.json', whole, names[::2])
  part = opened('train[:40%]')
  rest = opened('train[:40%]', exclude=path)
  assert ids(rest) == [name for name in ids(part) if name not in names[::2]]
  some = opened(exclude=path, subset=5, seed=1)
  assert some.num_examples == 5
  assert set(ids(some)) < set(names[1::2])


def test_sum_of_two_parts(opened, tmp_path):
  whole = opened()
  names = ids(whole)
  path = write(tmp_path / 'list.json', whole, [names[0], names[8], names[20]])
  parts = opened('train[:2]+train[7:10]', exclude=path)
  assert ids(parts) == [names[1], names[7], names[9]]


def test_empty_list(opened, tmp_path):
  whole = opened()
  rest = opened(exclude=write(tmp_path / 'list.json', whole, []))
  assert ids(rest) == ids(whole)


def test_mismatched_lists_are_refused(opened, tmp_path):
  whole = opened()
  names = ids(whole)
  path = tmp_path / 'list.json'
  with pytest.raises(ValueError, match=r'made for .*cifar10.*, not for'):
    opened(exclude=write(path, whole, [], data='cifar10'))
  for split in ('test', 'train[:90%]'):
    with pytest.raises(ValueError, match='does not cover train of'):
      opened(exclude=write(path, whole, [], split=split))
  with pytest.raises(ValueError, match='does not cover test of'):
    opened('train+test', exclude=write(path, whole, []))
  with pytest.raises(ValueError, match=r'no longer in this split \(1 of 2\)'):
    opened(exclude=write(path, whole, [names[0], 'x__99999']))
  with pytest.raises(ValueError, match='excludes all'):
    opened(exclude=write(path, whole, names))
  path.write_text('{"data": "x"}')
  with pytest.raises(ValueError, match=r'is not a list .*KeyError.*split'):
    opened(exclude=str(path))
  path.write_text('["x"]')
  with pytest.raises(ValueError, match=r'is not a list .*TypeError'):
    opened(exclude=str(path))
  with pytest.raises(ValueError, match='does not exist'):
    opened(exclude=str(tmp_path / 'no.json'))


def test_list_of_a_part_applies_to_that_part(opened, tmp_path):
  part = opened('train[:40%]')
  listed = ids(part)[:2]
  path = write(tmp_path / 'list.json', part, listed)
  assert ids(opened('train[:40%]', exclude=path)) == ids(part)[2:]


def test_tfds_ids_match_tfds(tfds_dir):
  source = registry.open_source('tfds:tiny', 'train[5:30]', data_dir=tfds_dir)
  rows = tfds.load(
    'tiny',
    split='train[5:30]',
    data_dir=tfds_dir,
    read_config=tfds.ReadConfig(interleave_cycle_length=1, add_tfds_id=True),
  )
  assert ids(source) == [row['tfds_id'].numpy().decode() for row in rows]
