"""The 19 tasks, on files filled with TFDS's mock data."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from vit_jax.data import pipeline, preprocess, registry, vtab_tasks
from vit_jax.data.label_rules import LabelRule
from vit_jax.data.source import NotPreparedError
import vtab_data

TASKS = tuple(vtab_tasks.TASKS)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('vtab')
  vtab_data.prepare(folder)
  return folder


def open_task(data_dir, name, split):
  return registry.open_source(f'vtab:{name}', split, data_dir=data_dir)


def test_groups_have_seven_four_and_eight_tasks():
  groups = [task.group for task in vtab_tasks.TASKS.values()]
  assert groups == (['natural'] * 7 + ['specialized'] * 4 + ['structured'] * 8)


def test_augmentation_excluded_from_training():
  no_crop = [n for n, task in vtab_tasks.TASKS.items() if not task.random_crop]
  assert no_crop == [
    'clevr_count',
    'clevr_distance',
    'dmlab',
    'dsprites_location',
    'kitti_distance',
  ]
  no_flip = [n for n, task in vtab_tasks.TASKS.items() if not task.flip]
  assert no_flip == [
    'dsprites_location',
    'dsprites_orientation',
    'smallnorb_azimuth',
  ]


@pytest.mark.parametrize('name', TASKS)
def test_builder_has_the_version_and_the_classes(name, tmp_path):
  dataset = vtab_tasks.TASKS[name].dataset
  builder = tfds.builder(dataset.builder, data_dir=tmp_path)
  assert builder.info.full_name == dataset.builder.replace(':', '/')
  if isinstance(dataset.label, LabelRule):
    assert dataset.label.num_classes == dataset.num_classes
    assert set(dataset.label.features) <= set(builder.info.features)
  else:
    label = builder.info.features[dataset.label]
    assert label.num_classes == dataset.num_classes


def test_binned_features_have_the_expected_number_of_values(tmp_path):
  features = tfds.builder('dsprites:2.0.0', data_dir=tmp_path).info.features
  assert features['label_x_position'].num_classes == 32
  assert features['label_orientation'].num_classes == 40
  kitti = tfds.builder('kitti:3.1.0', data_dir=tmp_path).info.features
  assert kitti['objects'].feature['type'].names[:3] == ['Car', 'Van', 'Truck']


# Start of the held-out images, in percent of a training split of N images, and
# the test split.
HELD_OUT = {
  'caltech101': (90, 3_060, 'test', 6_084),
  'cifar100': (90, 50_000, 'test', 10_000),
  'oxford_iiit_pet': (80, 3_680, 'test', 3_669),
  'svhn': (90, 73_257, 'test', 26_032),
  'eurosat': (60, 27_000, 'train', 5_400),
  'resisc45': (60, 31_500, 'train', 6_300),
  'clevr_count': (90, 70_000, 'validation', 15_000),
  'clevr_distance': (90, 70_000, 'validation', 15_000),
  'dsprites_location': (80, 737_280, 'train', 73_728),
  'dsprites_orientation': (80, 737_280, 'train', 73_728),
}
OTHERS = {
  'dtd': ('validation', 1_880),
  'oxford_flowers102': ('validation', 6_149),
  'sun397': ('validation', 21_750),
  'patch_camelyon': ('validation', 32_768),
  'diabetic_retinopathy': ('validation', 42_670),
  'dmlab': ('validation', 22_735),
  'kitti_distance': ('validation', 711),
  'smallnorb_azimuth': ('test', 12_150),
  'smallnorb_elevation': ('test', 12_150),
}


def pieces(data_dir, name, split):
  """Returns the (whole split, begin, end) that TFDS resolves a split to."""
  task = vtab_tasks.TASKS[name]
  builder = tfds.builder(task.dataset.builder, data_dir=data_dir)
  found = []
  for part in builder.info.splits[task.splits[split]].file_instructions:
    plain = part.filename.split('.tfrecord')[0].rpartition('-')[2]
    lengths = builder.info.splits[plain].shard_lengths
    shard = int(part.filename.split('tfrecord-')[1][:5])
    begin = sum(lengths[:shard]) + part.skip
    if found and found[-1][0] == plain and found[-1][2] == begin:
      begin = found.pop()[1]
    end = sum(lengths[:shard]) + part.skip + part.take
    found.append((plain, begin, end))
  return found


@pytest.mark.parametrize('name', TASKS)
def test_split_boundaries(data_dir, name):
  train = ('train', 0, 800)
  assert pieces(data_dir, name, 'train800') == [train]
  if name in HELD_OUT:
    percent, size, tested, test_size = HELD_OUT[name]
    begin = percent * size // 100
    val = ('train', begin, begin + 200)
    total = size if tested == 'train' else test_size
    if name.startswith('clevr'):
      assert total == 15_000
    test = (tested, total - test_size, total)
  else:
    held_out, test_size = OTHERS[name]
    val = (held_out, 0, 200)
    total = 24_300 if name.startswith('smallnorb') else test_size
    test = ('test', total - test_size, total)
  assert pieces(data_dir, name, 'val200') == [val]
  assert pieces(data_dir, name, 'train800val200') == [train, val]
  assert pieces(data_dir, name, 'test') == [test]
  sizes = {
    split: open_task(data_dir, name, split).num_examples
    for split in vtab_tasks.TASKS[name].splits
  }
  assert sizes == {
    'train800': 800,
    'val200': 200,
    'train800val200': 1000,
    'test': test_size,
  }


def test_boundaries_are_listed_for_every_task():
  assert set(HELD_OUT) | set(OTHERS) == set(TASKS)


@pytest.mark.parametrize('name', TASKS)
def test_batches(data_dir, name):
  task = vtab_tasks.TASKS[name]
  train = open_task(data_dir, name, 'train800val200')
  assert train.num_classes == task.dataset.num_classes
  batches = pipeline.train_batches(
    train,
    preprocess.train_transform(
      image_size=(16, 16),
      crop='random' if task.random_crop else 'resize',
      flip=task.flip,
      precrop_size=(18, 18),
    ),
    batch_size=64,
    seed=0,
  )
  tested = pipeline.eval_batches(
    open_task(data_dir, name, 'test'),
    preprocess.eval_transform(image_size=(16, 16), crop='resize'),
    batch_size=64,
  )
  for batch in (next(batches), next(iter(tested))):
    assert batch['image'].shape == (64, 16, 16, 3)
    assert batch['image'].min() >= -1
    assert batch['image'].max() <= 1
    assert batch['image'].std() > 0.1
    assert batch['label'].min() >= 0
    assert batch['label'].max() < task.dataset.num_classes
    assert len(set(batch['label'].tolist())) > 1


def test_dsprites_are_black_and_white(data_dir):
  source = open_task(data_dir, 'dsprites_location', 'val200')
  image, _ = source.load(next(iter(source.ordered())))
  assert image.shape == (8, 8, 3)
  assert set(image.numpy().flat) == {0, 255}


def test_training_examples_match_the_files(data_dir):
  source = open_task(data_dir, 'clevr_count', 'train800val200')

  def labels(of):
    loaded = of.ordered().map(lambda record: of.load(record)[1])
    return list(loaded.as_numpy_iterator())

  in_memory, stored = labels(source), labels(source.stored)
  assert in_memory == stored
  assert set(stored) == set(range(8))
  assert source.describe(799) == 'vtab:clevr_count/train800val200#799'


def test_unexpected_sizes_are_refused(tmp_path):
  features = {
    'image': tfds.features.Image(shape=(None, None, 3)),
    'label': tfds.features.ClassLabel(num_classes=47),
  }
  row = {'image': np.zeros((4, 4, 3), np.uint8), 'label': 0}
  tfds.dataset_builders.store_as_tfds_dataset(
    name='dtd',
    version='3.0.1',
    features=tfds.features.FeaturesDict(features),
    split_datasets={'train': [(i, row) for i in range(12)]},
    data_dir=tmp_path,
  )
  with pytest.raises(
    ValueError,
    match=r'train \(12\), validation \(0\).*train \(1880\), validation \(1880',
  ):
    open_task(tmp_path, 'dtd', 'train800')


@pytest.mark.parametrize(
  ('name', 'split', 'message'),
  [
    ('vtab:dtd2', 'test', "'dtd2' is not a VTAB task; .*caltech101, cifar100"),
    ('vtab', 'test', "'' is not a VTAB task"),
    ('vtab:dtd', 'train', "no split 'train'; splits: train800, val200"),
  ],
)
def test_unknown_names_are_explained(data_dir, name, split, message):
  with pytest.raises(ValueError, match=message):
    registry.open_source(name, split, data_dir=data_dir)


def test_missing_data_is_named(tmp_path):
  with pytest.raises(NotPreparedError, match='vtab:dtd.*dtd/3.0.1'):
    open_task(tmp_path, 'dtd', 'test')
