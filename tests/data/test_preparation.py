"""Writing original data as a dataset: bytes, rules, interruptions, errors."""

import contextlib
import errno
import os

from etils import epath
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import originals
from originals import image_file
from vit_jax.checkpoints import atomic
from vit_jax.data import decode, registry
from vit_jax.data.preparation import (
  dataset,
  images,
  index,
  kinds,
  merge,
  workers,
)
from vit_jax.data.preparation.original import Item

SETTINGS = {
  'seed': 1,
  'duplicates': 'first',
  'shard_mib': 1,
  'max_pixels': 10**6,
}


def prepare(original, folder, class_names=None, **settings):
  return dataset.prepare(
    original,
    epath.Path(folder) / 'pictures',
    settings=SETTINGS | settings,
    class_names=class_names,
    num_workers=1,
    progress=lambda *_: None,
  )


def examples(folder, split='train'):
  """Returns the stored examples, with class names as labels."""
  builder = tfds.builder_from_directory(folder / 'pictures' / '1.0.0')
  names = builder.info.features['label'].names
  decoders = {'image': tfds.decode.SkipDecoding()}
  return [
    (e['file_name'].decode(), names[e['label']], e['image'])
    for e in builder.as_dataset(split, decoders=decoders).as_numpy_iterator()
  ]


def contents(folder):
  root = folder / 'pictures'
  assert [path.name for path in root.iterdir()] == ['1.0.0']
  return {path.name: path.read_bytes() for path in (root / '1.0.0').iterdir()}


@pytest.fixture
def small_shards(monkeypatch):
  """Shards of about 300 bytes, which is one or two images."""
  plan = dataset.shards.plan
  monkeypatch.setattr(
    dataset.shards, 'plan', lambda *given: plan(*given[:-1], 300)
  )


def three_units():
  return originals.GivenOriginal(
    [Item(f'a/{i}', ('a',), image_file(i)) for i in range(3)],
    [Item(f'b/{i}', ('b',), image_file(3 + i), 'test') for i in range(2)],
    [Item(f'b/{i}', ('b',), image_file(5 + i, 'JPEG')) for i in range(3)],
  )


def test_tfds_reads_what_is_written(tmp_path):
  results = prepare(three_units(), tmp_path)
  assert results['splits'] == {'test': 2, 'train': 6}
  builder = tfds.builder_from_directory(tmp_path / 'pictures' / '1.0.0')
  assert builder.info.splits['train'].num_examples == 6
  assert builder.info.features['label'].names == ['a', 'b']
  images = {
    example['file_name'].decode(): example['image']
    for example in builder.as_dataset('train').as_numpy_iterator()
  }
  for name, image in images.items():
    (item,) = [
      item
      for unit in three_units().units()
      for item in unit.items()
      if (item.name, item.split) == (name, 'train')
    ]
    np.testing.assert_array_equal(image, decode.to_rgb(tf.constant(item.data)))
  assert len(images) == 6


def test_our_source_reads_what_is_written(tmp_path):
  prepare(three_units(), tmp_path)
  source = registry.open_source(
    'tfds:pictures', 'train', data_dir=str(tmp_path)
  )
  assert source.num_examples == 6
  assert source.class_names == ('a', 'b')
  assert not source.multi_label


def test_bytes_do_not_depend_on_units_and_interruptions(
  tmp_path, monkeypatch, small_shards
):
  prepare(three_units(), tmp_path / 'expected')
  expected = contents(tmp_path / 'expected')
  assert sum('.tfrecord-' in name for name in expected) > 4
  regrouped = originals.GivenOriginal(
    *([item] for unit in three_units().units() for item in unit.items())
  )
  prepare(regrouped, tmp_path / 'regrouped')
  del expected['preparation.json']
  others = contents(tmp_path / 'regrouped')
  del others['preparation.json']
  assert others == expected

  # Like a kill, the exception leaves the temporary file behind.
  renamed, count = atomic.renamed, 0

  @contextlib.contextmanager
  def killed_later(path, *suffix):
    nonlocal count
    count -= 1
    if count < 0:
      path.parent.mkdir(parents=True, exist_ok=True)
      (path.parent / f'{path.name}.tmp').write_bytes(b'torn')
      raise KeyboardInterrupt
    with renamed(path, *suffix) as temporary:
      yield temporary

  monkeypatch.setattr(atomic, 'renamed', killed_later)
  kills = 0
  for steps in (0, 1, 2, 1, 1, 3, 1, 99):
    count = steps
    try:
      prepare(three_units(), tmp_path / 'killed')
    except KeyboardInterrupt:
      kills += 1
  assert kills == 7
  others = contents(tmp_path / 'killed')
  del others['preparation.json']
  assert others == expected


def test_a_full_disk_is_an_error_and_resumes(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with monkeypatch.context() as patch:
    patch.setattr(tf.io.TFRecordWriter, 'write', full)
    with pytest.raises(OSError, match='No space left'):
      prepare(three_units(), tmp_path)
  incomplete = tmp_path / 'pictures' / '1.0.0.incomplete'
  assert not list(incomplete.rglob('*.tmp'))
  monkeypatch.setattr(index, 'index_unit', None)  # Is not repeated.
  assert prepare(three_units(), tmp_path)['splits']['train'] == 6


@pytest.mark.parametrize('added', [(), ('b/1.png',)])
def test_repaired_and_added_images_are_read(tmp_path, added):
  photos, names = tmp_path / 'photos', ('a/0.png', 'b/0.png')
  for name in names:
    (photos / name).parent.mkdir(parents=True)
    (photos / name).write_bytes(b'no image')

  def try_to_prepare():
    return prepare(kinds.open_original(f'folder:{photos}'), tmp_path / 'data')

  with pytest.raises(ValueError, match='no image that can be read: a/0.png'):
    try_to_prepare()
  for number, name in enumerate(names + added):
    (photos / name).write_bytes(image_file(number))
  results = try_to_prepare()
  assert results['splits'] == {'train': 2 + len(added)}
  assert results['unreadable'] == 0


def test_order_depends_on_the_seed_and_the_images_only(tmp_path):
  def order(folder, **settings):
    prepare(three_units(), tmp_path / folder, **settings)
    return [image for _, _, image in examples(tmp_path / folder)]

  first = order('first')
  assert order('same', duplicates='keep') == first
  other = order('other', seed=2)
  assert other != first
  assert sorted(other) == sorted(first)


def duplicates():
  """Returns images x (three times), y (twice) and z, and x in another split."""
  x, y, z = map(image_file, range(3))
  return originals.GivenOriginal(
    [
      Item('1', ('c',), x),
      Item('2', ('b',), x),
      Item('3', ('c',), x),
      Item('4', ('a',), y),
    ],
    [
      Item('5', ('a',), y),
      Item('6', ('b',), z),
      Item('7', ('c',), x, 'test'),
    ],
  )


@pytest.mark.parametrize(
  ('rule', 'expected'),
  [
    ('keep', {'1': 'c', '2': 'b', '3': 'c', '4': 'a', '5': 'a', '6': 'b'}),
    ('first', {'2': 'b', '4': 'a', '6': 'b'}),
    ('drop', {'4': 'a', '6': 'b'}),
    ('all_labels', {'2': 'bc', '4': 'a', '6': 'b'}),
  ],
)
def test_duplicates(tmp_path, rule, expected):
  results = prepare(duplicates(), tmp_path, duplicates=rule)
  assert results['duplicates'] == 3
  assert results['ambiguous'] == 1
  assert results['splits'] == {'test': 1, 'train': len(expected)}
  source = registry.open_source(
    'tfds:pictures', 'train', data_dir=str(tmp_path)
  )
  assert source.multi_label == (rule == 'all_labels')
  builder = tfds.builder_from_directory(tmp_path / 'pictures' / '1.0.0')
  found = {
    e['file_name'].decode(): ''.join('abc'[k] for k in np.ravel(e['label']))
    for e in builder.as_dataset('train').as_numpy_iterator()
  }
  assert found == expected


def test_dropping_every_image_is_an_error(tmp_path):
  items = [Item('1', ('a',), image_file(1)), Item('2', ('b',), image_file(1))]
  original = originals.GivenOriginal(items)
  with pytest.raises(ValueError, match='choose first or all_labels'):
    prepare(original, tmp_path, duplicates='drop')
  assert prepare(original, tmp_path)['splits'] == {'train': 1}


def test_an_image_without_a_label_makes_the_data_multi_label(tmp_path):
  items = [Item('1', (), image_file(1)), Item('2', ('a', 'b'), image_file(2))]
  prepare(originals.GivenOriginal(items), tmp_path)
  builder = tfds.builder_from_directory(tmp_path / 'pictures' / '1.0.0')
  labels = [
    e['label'].tolist() for e in builder.as_dataset('train').as_numpy_iterator()
  ]
  assert sorted(labels) == [[], [0, 1]]


@pytest.mark.parametrize(
  ('kind', 'options', 'converted'),
  [
    ('JPEG', {}, False),
    ('JPEG', {'progressive': True}, False),
    ('PNG', {}, False),
    ('BMP', {}, False),
    ('GIF', {}, True),
    ('WebP', {}, True),
    ('TIFF', {}, True),
  ],
)
def test_conversion(kind, options, converted):
  data = image_file(3, kind, **options)
  assert images.must_be_converted(data, 10**6) == converted
  if converted:
    png = images.to_png(data, 10**6)
    np.testing.assert_array_equal(
      tf.io.decode_image(png), decode.to_rgb(tf.constant(data))
    )


def damaged(seed):
  """Yields files that were cut off or overwritten at random."""
  random = np.random.RandomState(seed)
  for kind in ('JPEG', 'PNG', 'JPEG', 'JPEG'):
    data = image_file(seed, kind)
    yield data[: random.randint(4, len(data))]
    start = random.randint(len(data))
    yield data[:start] + random.bytes(20) + data[start + 20 :]


def test_the_check_finds_what_decoding_finds():
  failures = 0
  for data in [d for seed in range(15) for d in damaged(seed)]:
    try:
      decode.to_rgb(tf.constant(data), 10**6)
      expected = True
    except tf.errors.OpError:
      expected = False
      failures += 1
    try:
      images.must_be_converted(data, 10**6)
      found = True
    except ValueError:
      found = False
    assert found == expected
  assert failures > 40


def test_unreadable_images_are_listed(tmp_path):
  items = [
    Item('good', ('a',), image_file(1)),
    Item('cut\n', ('a',), image_file(2, 'JPEG')[:-50]),
    Item('missing', ('b',), b'', error='no such file'),
    Item('empty', ('c',), b''),
  ]
  results = prepare(originals.GivenOriginal(items), tmp_path)
  assert results['unreadable'] == 3
  assert results['classes'] == 1
  listed = contents(tmp_path)['unreadable.txt'].decode().splitlines()
  assert listed[0].startswith('cut\\n\t')
  assert listed[1] == 'missing\tno such file'
  assert listed[2].startswith('empty\tit is not a JPEG, PNG')


def test_data_without_readable_images_is_refused(tmp_path):
  with pytest.raises(ValueError, match='no image that can be read: a/0 .an im'):
    prepare(three_units(), tmp_path, max_pixels=62)
  with pytest.raises(ValueError, match='no image that can be read.$'):
    prepare(originals.GivenOriginal(), tmp_path / 'empty')


def test_changes_since_an_interruption_are_refused(tmp_path, monkeypatch):
  def interrupt(*_, **unused):
    raise KeyboardInterrupt

  def interrupted(function, **settings):
    with monkeypatch.context() as patch:
      patch.setattr(dataset, function, interrupt)
      with pytest.raises(KeyboardInterrupt):
        prepare(three_units(), tmp_path, **settings)

  interrupted('_write_shards')
  with pytest.raises(ValueError, match='max_pixels 1000000 -> 100'):
    prepare(three_units(), tmp_path, max_pixels=100)
  # Neither the seed nor other units have had an effect yet.
  interrupted('_write_shards', seed=2)
  interrupted('_write_metadata', seed=2)
  with pytest.raises(ValueError, match='not the same as when'):
    prepare(duplicates(), tmp_path, seed=2)
  with pytest.raises(ValueError, match='other settings .seed 2 -> 1.'):
    prepare(three_units(), tmp_path)
  prepare(three_units(), tmp_path, seed=2)


def test_a_file_that_changes_between_the_passes_is_an_error(
  tmp_path, monkeypatch
):
  file = tmp_path / 'file'
  file.write_bytes(image_file(1))
  item = Item('1', ('a',), image_file(1), file=str(file))
  join = merge.merge

  def change(*args, **kwargs):
    file.write_bytes(image_file(2))
    return join(*args, **kwargs)

  with monkeypatch.context() as patch:
    patch.setattr(merge, 'merge', change)
    with pytest.raises(ValueError, match='1 in .*file has changed since'):
      prepare(originals.GivenOriginal([item]), tmp_path)
  file.write_bytes(image_file(1))
  prepare(originals.GivenOriginal([item]), tmp_path)


def test_a_finished_data_set(tmp_path):
  folder = epath.Path(tmp_path / 'pictures')
  assert dataset.finished(folder, SETTINGS) is None
  results = prepare(three_units(), tmp_path)
  assert dataset.finished(folder, SETTINGS) == results
  with pytest.raises(ValueError, match="duplicates 'first' -> 'drop'"):
    dataset.finished(folder, SETTINGS | {'duplicates': 'drop'})
  (folder / '1.0.0' / 'preparation.json').unlink()
  with pytest.raises(ValueError, match='not prepared by this command'):
    dataset.finished(folder, SETTINGS)


@pytest.mark.parametrize(
  ('labels', 'names', 'expected'),
  [
    ('b a', None, {'a': 'a', 'b': 'b'}),
    ('10 9 1', None, {'1': '1', '9': '9', '10': '10'}),
    ('10 9 x', None, {'10': '10', '9': '9', 'x': 'x'}),
    ('a', ['b', 'a'], {'b': 'b', 'a': 'a'}),
    ('01 2', ['x', 'y', 'z'], {'0': 'x', '01': 'y', '2': 'z'}),
  ],
)
def test_names_of_classes(labels, names, expected):
  original = originals.GivenOriginal()
  found = merge.name_classes(labels.split(), original, names)
  assert list(found.items()) == list(expected.items())


@pytest.mark.parametrize(
  ('labels', 'names', 'message'),
  [
    (['a', 'c'], ['a', 'b'], 'labels c of the data are neither among the 2'),
    (['0', '2'], ['a', 'b'], 'labels 0, 2 of the data'),
    (['1', '01'], ['a', 'b'], 'labels 01, 1 of the data'),
    (['a'], ['a', 'a'], "must be unique .* 'a'; set"),
    (['a\nb'], None, r"one line each, .* 'a\\nb'; set"),
    ([''], None, "one line each, .* ''; set"),
  ],
)
def test_bad_names_of_classes(labels, names, message):
  with pytest.raises(ValueError, match=message):
    merge.name_classes(labels, originals.GivenOriginal(), names)


def test_bad_names_of_splits(tmp_path):
  item = Item('1', ('a',), image_file(1), 'train set')
  with pytest.raises(ValueError, match="'train set' cannot be the name of a"):
    prepare(originals.GivenOriginal([item]), tmp_path)


@pytest.mark.parametrize('name', ['', 'Photos', '1st', 'a-b', 'a/b', 'mnist'])
def test_bad_names_of_data_sets(name):
  with pytest.raises(ValueError, match=f'prepare.name={name!r} is '):
    dataset.check_name(name)


def test_a_worker_that_is_killed_is_an_error():
  killed = pytest.raises(OSError, match='worker process was killed.*it was 2')
  with workers.start(2) as run, killed:
    list(run(originals.kill_itself, [(n,) for n in range(9)]))


@pytest.fixture
def bucket(monkeypatch):
  """A bucket on gs:// in the memory of this process."""

  class Backend:
    def __getattr__(self, name):
      function = getattr(epath.backend.tf_backend, name)

      def call(*paths, **kwargs):
        return function(*map(in_memory, paths), **kwargs)

      return call

  def in_memory(path):
    return path.replace('gs://', 'ram://') if isinstance(path, str) else path

  writer = tf.io.TFRecordWriter
  monkeypatch.setattr(
    tf.io, 'TFRecordWriter', lambda path: writer(in_memory(path))
  )
  local = epath.gpath.PosixGPath._backend.fget
  monkeypatch.setattr(
    epath.gpath.PosixGPath,
    '_backend',
    property(lambda p: Backend() if '://' in str(p) else local(p)),
  )
  return epath.Path('gs://bucket')


def test_google_cloud_storage(bucket, tmp_path, monkeypatch):
  local = tmp_path / 'local'
  prepare(three_units(), local)
  folder = bucket / 'pictures'

  def interrupted(incomplete, final):
    final.mkdir(exist_ok=True)
    (incomplete / 'features.json').replace(final / 'features.json')
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(dataset, '_publish', interrupted)
    with pytest.raises(KeyboardInterrupt):
      prepare(three_units(), bucket)
  prepare(three_units(), bucket)
  assert [path.name for path in folder.iterdir()] == ['1.0.0']
  found = {p.name: p.read_bytes() for p in (folder / '1.0.0').iterdir()}
  assert found == contents(local)
