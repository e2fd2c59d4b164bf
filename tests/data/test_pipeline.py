"""Batches: order, restarts, division among processes, padding, broken files."""

import dataclasses
import itertools
import pathlib
import time

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.data import pipeline, preprocess, registry

FLOWERS = pathlib.Path(__file__).resolve().parents[3] / 'shared/data/flowers12'
SIZE = (6, 8)
AUGMENT = preprocess.train_transform(
  image_size=SIZE, crop='inception', flip=True, rotate_degrees=5, shift=0.1
)
RESIZE = preprocess.eval_transform(image_size=SIZE, crop='resize')


@pytest.fixture(scope='module')
def tfds_dir(tmp_path_factory):
  """35 images in three files; the gray value identifies an image."""
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
    split_datasets={'train': rows},
    data_dir=folder,
    download_config=tfds.download.DownloadConfig(num_shards=3),
  )
  return folder


@pytest.fixture
def folder(tmp_path):
  """35 images in three classes; one is a JPEG named .png."""
  for i in range(35):
    path = tmp_path / 'train' / 'abc'[i % 3] / f'{i}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new('RGB', (9, 7), (7 * i,) * 3)
    image.save(path, 'JPEG' if i == 3 else 'PNG')
  return tmp_path


@pytest.fixture(params=['digits', 'folder', 'tfds'])
def source(request):
  """A source of every kind with 35 examples."""
  if request.param == 'digits':
    return registry.open_source('digits', 'train[:35]')
  if request.param == 'folder':
    path = request.getfixturevalue('folder')
    return registry.open_source(f'folder:{path}', 'train')
  data_dir = request.getfixturevalue('tfds_dir')
  return registry.open_source('tfds:tiny', 'train', data_dir=data_dir)


def train(source, count, **options):
  options = {'batch_size': 8, 'seed': 0, **options}
  batches = pipeline.train_batches(source, AUGMENT, **options)
  return list(itertools.islice(batches, count))


def assert_equal(batches, others):
  for batch, other in zip(batches, others, strict=True):
    assert batch.keys() == other.keys()
    for name in batch:
      np.testing.assert_array_equal(batch[name], other[name])


def test_shapes_and_types_of_a_batch(source):
  (batch,) = train(source, 1)
  forms = {name: (rows.shape, str(rows.dtype)) for name, rows in batch.items()}
  assert forms == {
    'image': ((8, 6, 8, 3), 'float32'),
    'label': ((8,), 'int32'),
    'mask': ((8,), 'float32'),
    'index': ((8,), 'int64'),
  }
  assert batch['mask'].all()


def test_seed_determines_the_stream(source):
  first = train(source, 6)
  assert_equal(first, train(source, 6))
  other = train(source, 6, seed=1)
  assert [b['index'].tolist() for b in first] != [
    b['index'].tolist() for b in other
  ]


def test_epochs_are_contiguous(source):
  # 112 rows: three epochs of 35, and 7 more.
  stream = train(source, 14, readers=1)
  index = np.concatenate([batch['index'] for batch in stream])
  orders = [index[35 * epoch :][:35].tolist() for epoch in range(3)]
  for order in orders:
    assert sorted(order) == list(range(35))
  assert orders[0] != orders[1] != orders[2]
  # The augmentation of an example differs from epoch to epoch.
  image = np.concatenate([batch['image'] for batch in stream])
  label = np.concatenate([batch['label'] for batch in stream])
  first = image[:35][np.argsort(orders[0])]
  second = image[35:70][np.argsort(orders[1])]
  assert (first != second).any(axis=(1, 2, 3)).sum() >= 30
  np.testing.assert_array_equal(
    label[:35][np.argsort(orders[0])], label[35:70][np.argsort(orders[1])]
  )


@pytest.mark.parametrize('start_step', [1, 4, 9])
def test_restart_resumes_bit_for_bit(source, start_step):
  # Batches 4 and 8 span two epochs.
  whole = train(source, start_step + 3)
  assert_equal(train(source, 3, start_step=start_step), whole[start_step:])


def test_random_access_resumes_immediately():
  source = registry.open_source('digits', 'train')
  train(source, 1)
  start = time.perf_counter()
  train(source, 1, start_step=1_000_003)
  assert time.perf_counter() - start < 5  # 0.2 s on an idle machine.


@pytest.mark.parametrize(
  ('readers', 'process_count'),
  [(0, 2), (0, 4), (1, 2), (4, 2), (8, 2), (2, 4), (8, 4)],
)
def test_processes_share_every_batch(source, readers, process_count):
  whole = train(source, 10, readers=readers)
  shares = [
    train(
      source,
      10,
      readers=readers,
      process_index=i,
      process_count=process_count,
    )
    for i in range(process_count)
  ]
  joined = [
    {name: np.concatenate([b[name] for b in rows]) for name in rows[0]}
    for rows in zip(*shares, strict=True)
  ]
  assert_equal(joined, whole)


@pytest.mark.parametrize('readers', [1, 2, 4, 8])
def test_readers_read_every_example_once_per_epoch(source, readers):
  """Each cycles through its own part; together the parts are complete."""
  rows = 8 // readers
  stream = train(source, 3 * 35, readers=readers)  # 24 epochs.
  index = np.stack([batch['index'] for batch in stream])
  parts = [
    index[:, number * rows :][:, :rows].reshape(-1) for number in range(readers)
  ]
  sizes = [(i + 1) * 35 // readers - i * 35 // readers for i in range(readers)]
  of_first = set()
  for epoch in range(3):
    seen = [
      part[size * epoch :][:size]
      for part, size in zip(parts, sizes, strict=True)
    ]
    assert sorted(np.concatenate(seen)) == list(range(35))
    of_first.add(frozenset(seen[0]))
  # A reader's part differs from epoch to epoch.
  assert len(of_first) == (1 if readers == 1 else 3)
  assert_equal(train(source, 5, readers=readers, start_step=50), stream[50:55])


def test_default_number_of_readers(source):
  num_files = {'tfds:tiny': 3}.get(source.name, 1)
  assert source.max_readers == num_files
  assert pipeline.choose_readers(source, 7) == 1
  assert pipeline.choose_readers(source, 8) == {3: 2, 1: 1}[num_files]
  assert pipeline.choose_readers(source, 96) == {3: 2, 1: 1}[num_files]


@pytest.mark.parametrize(
  ('batch_size', 'process_count'), [(1, 1), (7, 1), (64, 1), (8, 2), (64, 4)]
)
def test_evaluation_sees_every_example_once(source, batch_size, process_count):
  shares = [
    pipeline.eval_batches(
      source,
      RESIZE,
      batch_size=batch_size,
      process_index=i,
      process_count=process_count,
    )
    for i in range(process_count)
  ]
  steps = -(-35 // batch_size)
  assert [len(share) for share in shares] == [steps] * process_count
  passes = [list(share) for share in shares]
  assert [len(batches) for batches in passes] == [steps] * process_count
  for batch in itertools.chain(*passes):
    assert batch['image'].shape == (batch_size // process_count, 6, 8, 3)
  # Every process reads its own range, followed by padding.
  examples = []
  for batches in passes:
    index, mask = (
      np.concatenate([b[name] for b in batches]) for name in ('index', 'mask')
    )
    real = int(mask.sum())
    np.testing.assert_array_equal(mask, [1] * real + [0] * (len(mask) - real))
    np.testing.assert_array_equal(index[real:], -1)
    examples += index[:real].tolist()
  assert examples == list(range(35))
  assert_equal(passes[0], list(shares[0]))


def test_evaluation_can_skip_batches(source):
  whole = list(pipeline.eval_batches(source, RESIZE, batch_size=8))
  late = pipeline.eval_batches(source, RESIZE, batch_size=8, start_step=3)
  assert len(late) == 2
  assert_equal(late, whole[3:])


@pytest.mark.parametrize(('batch_size', 'process_count'), [(3, 1), (4, 2)])
def test_evaluation_of_some_examples(source, batch_size, process_count):
  shares = [
    pipeline.eval_batches(
      source,
      RESIZE,
      batch_size=batch_size,
      only=np.array([34, 2, 7, 0, 20]),
      process_index=i,
      process_count=process_count,
    )
    for i in range(process_count)
  ]
  assert [len(share) for share in shares] == [2] * process_count
  index, label, mask = (
    np.concatenate([batch[name] for share in shares for batch in share])
    for name in ('index', 'label', 'mask')
  )
  index, label = index[mask > 0], label[mask > 0]
  np.testing.assert_array_equal(index, [0, 2, 7, 20, 34])
  np.testing.assert_array_equal(label, pipeline.labels(source)[index])
  assert len(mask) == 2 * batch_size


def test_labels_of_all_examples(source):
  (whole,) = pipeline.eval_batches(source, RESIZE, batch_size=35)
  np.testing.assert_array_equal(pipeline.labels(source), whole['label'])
  np.testing.assert_array_equal(
    pipeline.label_counts(source),
    np.bincount(whole['label'], minlength=source.num_classes),
  )


def test_images_and_labels_match(folder):
  source = registry.open_source(f'folder:{folder}', 'train')
  batches = pipeline.eval_batches(source, RESIZE, batch_size=6)
  for batch in batches:
    names = ('image', 'label', 'mask', 'index')
    for image, label, mask, index in zip(*map(batch.get, names), strict=True):
      if not mask:
        assert not image.any()
        continue
      path = pathlib.Path(source.describe(index))
      number = int(path.stem)
      assert source.class_names[label] == 'abc'[number % 3] == path.parent.name
      np.testing.assert_allclose(image, 7 * number / 127.5 - 1, atol=0.01)


def test_multiple_labels():
  @dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
  class Several(type(registry.open_source('digits', 'test'))):
    def load(self, record):
      raw, label = super().load(record)
      return raw, tf.one_hot(label, 10) + tf.one_hot((label + 1) % 10, 10)

  digits = registry.open_source('digits', 'train[:35]')
  source = Several(**{**vars(digits), 'multi_label': True})
  batches = list(pipeline.eval_batches(source, RESIZE, batch_size=32))
  labels = np.concatenate([batch['label'] for batch in batches])
  assert labels.shape == (64, 10)
  assert labels.dtype == np.float32
  np.testing.assert_array_equal(labels.sum(1), [2] * 35 + [0] * 29)


def break_13(folder):
  """Truncates a file after its first bytes, which are valid."""
  path = folder / 'train' / 'b' / '13.png'
  path.write_bytes(path.read_bytes()[:45])
  source = registry.open_source(f'folder:{folder}', 'train')
  index = [source.describe(i) for i in range(35)].index(str(path))
  return source, index


def test_broken_file_is_named_in_evaluation(folder):
  source, index = break_13(folder)
  batches = pipeline.eval_batches(source, RESIZE, batch_size=8)
  message = rf'cannot read .*13\.png, example {index} of folder:.* train: '
  with pytest.raises(ValueError, match=message):
    list(batches)


@pytest.mark.parametrize('process_count', [1, 2])
def test_broken_file_is_named_in_training(folder, process_count):
  order = np.concatenate(
    [
      batch['index']
      for batch in train(
        registry.open_source(f'folder:{folder}', 'train'), 9, start_step=7
      )
    ]
  )
  source, index = break_13(folder)
  step, row = divmod(order.tolist().index(index), 8)
  batches = pipeline.train_batches(
    source,
    AUGMENT,
    batch_size=8,
    seed=0,
    start_step=7,
    process_index=row // 4 if process_count == 2 else 0,
    process_count=process_count,
  )
  for _ in range(step):
    next(batches)
  with pytest.raises(ValueError, match=rf'13\.png, example {index} of folder'):
    next(batches)


def damaged(source, name, edit):
  """Returns the source with one of its files edited."""
  paths = source.shards['path'].copy()
  copy = pathlib.Path(name)
  content = bytearray(pathlib.Path(paths[1]).read_bytes())
  copy.write_bytes(edit(content))
  paths[1] = str(copy)
  return dataclasses.replace(source, shards={**source.shards, 'path': paths})


def flip(content):
  content[len(content) // 2] ^= 255
  return content


DAMAGE = {
  'a byte': flip,
  'cut': lambda content: content[:-9],
  'emptied': lambda content: b'',
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_damaged_tfrecord_file_is_named(kind, tfds_dir, tmp_path):
  source = registry.open_source('tfds:tiny', 'train', data_dir=tfds_dir)
  source = damaged(source, tmp_path / 'file', DAMAGE[kind])
  batches = pipeline.eval_batches(source, RESIZE, batch_size=8)
  message = (
    r'cannot read tfds:tiny/train#\d+ \(record \d+, counted from 0, of'
    rf' {tmp_path}'
  )
  with pytest.raises(ValueError, match=message):
    list(batches)
  with pytest.raises(ValueError, match=message):
    train(source, 9)
  with pytest.raises(ValueError, match=message):
    pipeline.labels(source)


def test_missing_tfrecord_file_is_named(tfds_dir, tmp_path):
  source = registry.open_source('tfds:tiny', 'train', data_dir=tfds_dir)
  source = damaged(source, tmp_path / 'file', bytes)
  (tmp_path / 'file').unlink()
  for skip in (False, True):
    batches = pipeline.eval_batches(
      source, RESIZE, batch_size=8, skip_corrupt=skip
    )
    with pytest.raises(ValueError, match=f'{tmp_path}/file; No such file'):
      list(batches)


@pytest.mark.parametrize('process_count', [1, 2])
def test_corrupt_examples_are_skipped_and_named(folder, process_count, caplog):
  good = train(registry.open_source(f'folder:{folder}', 'train'), 10)
  source, index = break_13(folder)
  shares = [
    train(
      source,
      10,
      skip_corrupt=True,
      process_index=i,
      process_count=process_count,
    )
    for i in range(process_count)
  ]
  skipped = 0
  for number, batch in enumerate(good):
    rows = [share[number] for share in shares]
    rows = {n: np.concatenate([r[n] for r in rows]) for n in batch}
    broken = batch['index'] == index
    skipped += broken.sum()
    np.testing.assert_array_equal(rows['index'], batch['index'])
    np.testing.assert_array_equal(rows['mask'], ~broken)
    np.testing.assert_array_equal(rows['image'][broken], 0)
    np.testing.assert_array_equal(
      rows['image'][~broken], batch['image'][~broken]
    )
  assert skipped == 2  # 80 rows are two epochs and 10 rows.
  messages = [record.getMessage() for record in caplog.records]
  assert len(messages) == 2
  assert all('skipped' in m and '13.png, which cannot' in m for m in messages)
  batches = pipeline.eval_batches(
    source, RESIZE, batch_size=8, skip_corrupt=True
  )
  rows = np.concatenate([b['index'][b['mask'] > 0] for b in batches])
  np.testing.assert_array_equal(rows, np.setdiff1d(np.arange(35), index))


def test_rest_of_a_damaged_file_is_skipped(tfds_dir, tmp_path):
  source = registry.open_source('tfds:tiny', 'train', data_dir=tfds_dir)
  good = train(source, 9)
  source = damaged(source, tmp_path / 'file', flip)
  found = train(source, 9, skip_corrupt=True)
  first, last = source.shards['first'][1], source.shards['first'][2]
  lost = set()
  for batch, other in zip(good, found, strict=True):
    np.testing.assert_array_equal(batch['index'], other['index'])
    real = other['mask'] > 0
    np.testing.assert_array_equal(batch['image'][real], other['image'][real])
    lost |= set(other['index'][~real])
  assert lost == set(range(last - len(lost), last))
  assert 0 < len(lost) < last - first
  counts = pipeline.label_counts(source, skip_corrupt=True)
  assert counts.sum() == 35 - len(lost)


def test_broken_record_is_named(tfds_dir):
  source = registry.open_source('tfds:tiny', 'train[10:]', data_dir=tfds_dir)
  batches = pipeline.eval_batches(
    source,
    lambda raw: tf.cond(
      tf.reduce_all(tf.io.decode_png(raw) == 210),
      lambda: RESIZE(tf.strings.substr(raw, 0, 45)),
      lambda: RESIZE(raw),
    ),
    batch_size=8,
  )
  values = [
    tf.io.decode_png(source.load(record)[0]).numpy()[0, 0, 0]
    for record in source.ordered()
  ]
  name = rf'cannot read tfds:tiny/train\[10:\]#{values.index(210)}'
  with pytest.raises(ValueError, match=name):
    list(batches)


def test_label_out_of_range_is_named():
  source = registry.open_source('digits', 'train[:35]')
  source = dataclasses.replace(source, class_names=tuple('01234567'))
  wrong = next(i for i in range(35) if source.labels[i] > 7)
  message = f'digits#{source.ids[wrong]} has label [89].* digits are 0 to 7'
  with pytest.raises(ValueError, match=message):
    list(pipeline.eval_batches(source, RESIZE, batch_size=64))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'batch_size': 10, 'process_count': 4}, 'positive multiple of .* 4'),
    ({'batch_size': 0}, 'batch_size 0'),
    (
      {'process_index': 2, 'process_count': 2},
      r'process_index 2 must be in \[0, 2\)',
    ),
  ],
)
def test_mistakes_are_explained(options, message):
  source = registry.open_source('digits', 'test')
  options = {'batch_size': 8, **options}
  with pytest.raises(ValueError, match=message):
    pipeline.train_batches(source, AUGMENT, seed=0, **options)
  with pytest.raises(ValueError, match=message):
    pipeline.eval_batches(source, RESIZE, **options)


@pytest.mark.skipif(not FLOWERS.exists(), reason='needs real images')
def test_flowers_are_evaluated_completely():
  source = registry.open_source(f'folder:{FLOWERS}', 'test')
  sums = []
  for batch_size in (7, 64, 512):
    total = np.zeros(12)
    for batch in pipeline.eval_batches(source, RESIZE, batch_size=batch_size):
      means = batch['image'].mean((1, 2, 3)) * batch['mask']
      np.add.at(total, batch['label'], means)
    sums.append(total)
  np.testing.assert_allclose(sums[1], sums[0], rtol=1e-5)
  np.testing.assert_allclose(sums[2], sums[0], rtol=1e-5)
