"""TFDS sources, on data written by TFDS."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.data import registry, tfds_source

NUM_TRAIN, NUM_TEST, NUM_FILES = 200, 40, 7


def write(
  data_dir, name, features, splits, version='1.0.0', num_files=1, config=None
):
  """Prepares a dataset of (key, example) pairs."""
  tfds.dataset_builders.store_as_tfds_dataset(
    name=name,
    version=version,
    config=config,
    features=tfds.features.FeaturesDict(features),
    split_datasets=splits,
    data_dir=data_dir,
    download_config=tfds.download.DownloadConfig(num_shards=num_files),
  )


def examples(count, label=lambda i: i % 10):
  """Returns examples; the image of example i is gray of value i."""
  return [
    (i, {'image': np.full((4, 6, 3), i, np.uint8), 'label': label(i)})
    for i in range(count)
  ]


IMAGE = tfds.features.Image(shape=(None, None, 3))


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tfds')
  ten = tfds.features.ClassLabel(num_classes=10)
  write(
    folder,
    'tiny',
    {'image': IMAGE, 'label': ten},
    {'train': examples(NUM_TRAIN), 'test': examples(NUM_TEST)},
    num_files=NUM_FILES,
  )
  named = tfds.features.ClassLabel(names=['cat', 'dog', 'cow'])
  write(
    folder,
    'several',
    {'image': IMAGE, 'label': tfds.features.Sequence(named)},
    {'train': examples(3, lambda i: list(range(i)))},
  )
  write(
    folder,
    'vague',
    {'picture': IMAGE, 'label': ten},
    {'train': [(0, {'picture': np.zeros((4, 4, 3), np.uint8), 'label': 0})]},
  )
  return folder


def open_tiny(data_dir, split='train', **options):
  return registry.open_source('tfds:tiny', split, data_dir=data_dir, **options)


def read(source, records):
  """Returns (index, gray value) of records."""
  values = []
  for record in records:
    raw, label = source.load(record)
    value = tf.io.decode_image(raw).numpy()[0, 0, 0]
    assert label == value % 10
    values.append((int(record['index']), int(value)))
  return values


def read_by_tfds(data_dir, split):
  """Returns gray values as read by TFDS, one file after another."""
  config = tfds.ReadConfig(interleave_cycle_length=1)
  rows = tfds.load('tiny', split=split, data_dir=data_dir, read_config=config)
  return [int(row['image'][0, 0, 0]) for row in rows]


def test_order_is_that_of_tfds(data_dir):
  source = open_tiny(data_dir)
  assert source.num_examples == NUM_TRAIN
  assert source.class_names == tuple('0123456789')
  assert len(source.shards['path']) == NUM_FILES
  expected = read_by_tfds(data_dir, 'train')
  assert read(source, source.ordered()) == list(enumerate(expected))


@pytest.mark.parametrize(
  'split', ['train[:90%]', 'train[90%:]', 'train[33:77]', 'train[190:]+test']
)
def test_slices_match_tfds(data_dir, split):
  source = open_tiny(data_dir, split)
  expected = read_by_tfds(data_dir, split)
  assert source.num_examples == len(expected)
  assert read(source, source.ordered()) == list(enumerate(expected))


def test_every_epoch_has_every_record_once_in_its_own_order(data_dir):
  source = open_tiny(data_dir)
  stream = list(source.shuffled(seed=3, start=0).take(3 * NUM_TRAIN))
  epochs = [stream[i * NUM_TRAIN :][:NUM_TRAIN] for i in range(3)]
  orders = []
  for number, records in enumerate(epochs):
    assert {int(record['epoch']) for record in records} == {number}
    orders.append([int(record['index']) for record in records])
    assert sorted(orders[-1]) == list(range(NUM_TRAIN))
    # Neighbors in a file are separated.
    assert np.mean(np.diff(orders[-1]) == 1) < 0.05
  assert orders[0] != orders[1] != orders[2]
  in_order = dict(read(source, source.ordered()))
  assert dict(read(source, epochs[1])) == in_order


def test_shuffle_depends_on_seed_and_epoch(data_dir):
  source = open_tiny(data_dir, 'train[:20]')
  assert len(source.shards['path']) == 1  # No order of files to shuffle.
  orders = {
    tuple(int(record['index']) for record in source.shuffled(*start).take(20))
    for start in [(0, 0), (0, 20), (0, 40), (1, 0)]
  }
  assert len(orders) == 4


@pytest.mark.parametrize('start', [0, 1, 199, 200, 201, 555])
def test_resuming_in_the_middle_of_the_stream(data_dir, start, monkeypatch):
  # A buffer smaller than the data, as for every large dataset.
  monkeypatch.setattr(tfds_source, 'SHUFFLE_BUFFER', 32)
  source = open_tiny(data_dir)

  def stream(seed, start, count):
    records = source.shuffled(seed, start).take(count)
    return [(int(r['epoch']), int(r['index'])) for r in records]

  whole = stream(0, 0, start + 30)
  assert stream(0, start, 30) == whole[start:]
  assert stream(1, start, 30) != whole[start:]


def test_subset(data_dir):
  source = open_tiny(data_dir, 'train[:50%]', subset=20, seed=5)
  assert source.num_examples == 20
  chosen = read(source, source.ordered())
  assert [index for index, _ in chosen] == list(range(20))
  half = open_tiny(data_dir, 'train[:50%]')
  half = dict(read(half, half.ordered()))
  for index, value in chosen:
    position = int(source.describe(index).rpartition('#')[2])
    assert half[position] == value
  shuffled = read(source, source.shuffled(0, 20).take(20))
  assert sorted(shuffled) == chosen
  other = open_tiny(data_dir, 'train[:50%]', subset=20, seed=6)
  assert chosen != read(other, other.ordered())


@pytest.mark.parametrize(
  ('subset', 'split'), [(0, 'train[:91]'), (37, 'train')]
)
def test_readers_divide_files(data_dir, subset, split):
  source = open_tiny(data_dir, split, subset=subset)
  whole = dict(read(source, source.ordered()))
  seen = []
  for reader in range(5):
    size = (reader + 1) * len(whole) // 5 - reader * len(whole) // 5
    stream = list(source.shuffled(3, 0, reader, 5).take(2 * size))
    first, second = stream[:size], stream[size:]
    assert {int(record['epoch']) for record in first} == {0}
    assert {int(record['epoch']) for record in second} == {1}
    late = source.shuffled(3, size + 2, reader, 5).take(size - 2)
    assert [int(r['index']) for r in late] == [
      int(r['index']) for r in second[2:]
    ]
    seen += read(source, first)
  assert len(seen) == len(whole)
  assert dict(seen) == whole
  middle = source.ordered(10, 25)
  assert read(source, middle) == [(i, whole[i]) for i in range(10, 25)]


def test_multiple_labels_become_zeros_and_ones(data_dir):
  source = registry.open_source('tfds:several', 'train', data_dir=data_dir)
  assert source.multi_label
  assert source.class_names == ('cat', 'dog', 'cow')
  labels = sorted(
    source.load(record)[1].numpy().tolist() for record in source.ordered()
  )
  assert labels == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]


def test_catalog_name_opens_its_builder(tmp_path):
  with tfds.testing.mock_data(num_examples=12):
    rows = list(tfds.as_numpy(tfds.load('cifar10', split='train')))
  features = dict(tfds.builder('cifar10', data_dir=tmp_path).info.features)
  # The real builder also learns its names only while preparing the data.
  features['label'] = tfds.features.ClassLabel(names=list('abcdefghij'))
  train = {'train': list(enumerate(rows))}
  write(tmp_path, 'cifar10', features, train, version='3.0.2')

  source = registry.open_source('cifar10', 'train', data_dir=tmp_path)
  assert source.name == 'cifar10'
  assert source.class_names == tuple('abcdefghij')
  read_back = [source.load(record) for record in source.ordered()]
  assert sorted(int(label) for _, label in read_back) == sorted(
    row['label'] for row in rows
  )
  pixels = {tf.io.decode_image(raw).numpy().tobytes() for raw, _ in read_back}
  assert pixels == {row['image'].tobytes() for row in rows}


def test_imagenet_v2(tmp_path):
  config = 'matched-frequency'
  with tfds.testing.mock_data(num_examples=5):
    rows = list(tfds.as_numpy(tfds.load(f'imagenet_v2/{config}', split='test')))
  builder = tfds.builder(f'imagenet_v2/{config}', data_dir=tmp_path)
  write(
    tmp_path,
    'imagenet_v2',
    dict(builder.info.features),
    {'test': list(enumerate(rows))},
    version='3.0.0',
    config=config,
  )
  source = registry.open_source('imagenet_v2', 'test', data_dir=tmp_path)
  assert source.num_classes == 1000
  labels = [int(source.load(record)[1]) for record in source.ordered()]
  assert sorted(labels) == sorted(row['label'] for row in rows)


def test_imagenet_real_labels_have_their_own_feature(tmp_path):
  labels = [[], [970, 795], [7]]
  rows = [
    {
      'image': np.full((4, 6, 3), i, np.uint8),
      'file_name': f'val/ILSVRC2012_val_{i + 1:08d}.JPEG',
      'original_label': 1,
      'real_label': of_image,
    }
    for i, of_image in enumerate(labels)
  ]
  builder = tfds.builder('imagenet2012_real', data_dir=tmp_path)
  write(
    tmp_path,
    'imagenet2012_real',
    dict(builder.info.features),
    {'validation': list(enumerate(rows))},
  )
  source = registry.open_source(
    'imagenet2012_real', 'validation', data_dir=tmp_path
  )
  assert source.multi_label
  names = source.file_names()
  assert sorted(names) == [f'ILSVRC2012_val_0000000{i}.JPEG' for i in (1, 2, 3)]
  for record in source.ordered():
    raw, label = source.load(record)
    image = int(tf.io.decode_image(raw)[0, 0, 0])
    assert names[int(record['index'])].endswith(f'{image + 1}.JPEG')
    assert label.numpy().nonzero()[0].tolist() == sorted(labels[image])


def test_file_names_follow_the_index_of_a_subset(tmp_path):
  features = {
    'image': IMAGE,
    'label': tfds.features.ClassLabel(num_classes=10),
    'file_name': tfds.features.Text(),
  }
  rows = [(i, row | {'file_name': f'{i}.png'}) for i, row in examples(30)]
  write(tmp_path, 'filed', features, {'train': rows}, num_files=3)
  source = registry.open_source(
    'tfds:filed', 'train[5:]', data_dir=tmp_path, subset=9
  )
  chosen = read(source, source.ordered())
  assert source.file_names() == [f'{value}.png' for _, value in chosen]


def test_missing_file_names_are_explained(data_dir):
  with pytest.raises(ValueError, match='no file names.*folder:PATH.*file_name'):
    open_tiny(data_dir).file_names()


@pytest.mark.parametrize(
  ('name', 'split', 'message'),
  [
    ('cifar10', 'train', 'no prepared data in .*cifar10/3.0.2.*download=true'),
    ('imagenet2012', 'train', '(?s)download=true.*manual folder'),
    ('imagenet21k', 'train', "know 'imagenet21k'.*Prepare.*prepare.py:tars:"),
    ('jft300m', 'train', "know 'jft300m'.*not public.*prepare.name=jft300m"),
    ('tfds:nowhere', 'train', "know 'nowhere'.*prepare.py.*folder:PATH"),
    ('tfds:cifar10:9.9.9', 'train', 'cifar10 cannot be loaded at version'),
    ('tfds:glue/cola', 'train', '(?s)needs a feature `image`.*sentence'),
    ('tfds:vague', 'train', '(?s)needs a feature `image`.*picture'),
    ('tfds:tiny', 'val', r"split 'val'.*Splits: train \(200\), test"),
    ('tfds:tiny', 'train[::2]', r"split 'train\[::2\]'.*Splits: train"),
    ('tfds:tiny', 'train[:0]', r"split 'train\[:0\]'"),
  ],
)
def test_mistakes_are_explained(data_dir, name, split, message):
  with pytest.raises(ValueError, match=message):
    registry.open_source(name, split, data_dir=data_dir)


def test_failed_preparation_is_explained(tmp_path):
  with pytest.raises(ValueError, match='(?s)could not be prepared.*Manual'):
    registry.open_source(
      'tfds:resisc45', 'train', data_dir=tmp_path, download=True
    )
