"""Image folders of every layout, valid and broken."""

import collections
import logging
import os
import pathlib
import sys
import tracemalloc

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from vit_jax.data import decode, exclusions, folder, pipeline, registry

SHARED = pathlib.Path(__file__).resolve().parents[3] / 'shared'
FLOWERS = SHARED / 'data/flowers12'
CASES = SHARED / 'cases'


def write(path, value=0):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new('RGB', (4, 4), (value, value, value)).save(path)


def read(source):
  """Returns the name and class of every example."""
  return [
    (
      pathlib.Path(source.describe(i)).name,
      source.class_names[source.load({'index': i})[1]],
    )
    for i in range(source.num_examples)
  ]


@pytest.fixture
def split_folders(tmp_path):
  for split, classes in {'train': 'abc', 'val': 'ab', 'test': 'bc'}.items():
    for label in classes:
      for i, ending in enumerate(('jpg', 'JPEG', 'PNG', 'WebP', 'tif')):
        write(tmp_path / split / label / f'{split}{label}{i}.{ending}')
  return tmp_path


def test_every_split_has_the_classes_of_train(split_folders):
  for split, labels in {'train': 'abc', 'val': 'ab', 'test': 'bc'}.items():
    source = folder.open_folder(str(split_folders), split)
    assert source.class_names == ('a', 'b', 'c')
    assert source.num_examples == 5 * len(labels)
    for name, label in read(source):
      assert name.startswith(split + label)


def test_splits_of_a_plain_folder(tmp_path):
  for label, count in {'x': 10, 'y': 12, 'z': 2, 'single': 1}.items():
    for i in range(count):
      write(tmp_path / label / f'{label}{i}.png')
  train = read(folder.open_folder(str(tmp_path), 'train'))
  test = read(folder.open_folder(str(tmp_path), 'test'))
  assert len({*train, *test}) == 25
  assert all(name.startswith(label) for name, label in train + test)
  assert collections.Counter(label for _, label in test) == {
    'x': 2, 'y': 2, 'z': 1,
  }  # fmt: skip

  # New images of one class do not move images of the others.
  write(tmp_path / 'x' / 'new.png')
  again = read(folder.open_folder(str(tmp_path), 'test'))
  assert {n for n in again if n[1] != 'x'} == {n for n in test if n[1] != 'x'}


def test_arithmetic_and_subset(split_folders):
  path = str(split_folders)
  whole = read(folder.open_folder(path, 'train'))
  assert whole != sorted(whole)
  assert read(folder.open_folder(path, 'train[:20%]')) == whole[:3]
  assert read(folder.open_folder(path, 'train[20%:]')) == whole[3:]
  both = folder.open_folder(path, 'train+val')
  assert both.num_examples == 25
  some = read(folder.open_folder(path, 'train', subset=6, seed=1))
  assert len(some) == 6
  assert set(some) < set(whole)
  assert some == read(folder.open_folder(path, 'train', subset=6, seed=1))


def test_other_files_are_ignored(split_folders, caplog):
  (split_folders / 'README.txt').write_text('words')
  (split_folders / 'train' / '.hidden').mkdir()
  (split_folders / 'train' / 'a' / '.DS_Store').write_text('x')
  (split_folders / 'train' / 'a' / 'notes.txt').write_text('words')
  with caplog.at_level(logging.INFO, logger='vit_jax'):
    source = folder.open_folder(str(split_folders), 'train')
  assert source.num_examples == 15
  assert (
    f'{split_folders}: skipped 2 files (.txt); 1 file (hidden); folder'
    f' {split_folders}/train/.hidden (hidden)'
  ) in caplog.text


BROKEN = {
  'text.jpg': 'not JPEG, PNG, GIF, BMP, WebP, TIFF according to the first',
  'void.png': 'not JPEG',
  'link.bmp': r'link\.bmp; No such file or directory',
  'folder.gif': r'folder\.gif; Is a directory',
  'pipe.png': 'it is a FIFO, a socket or a device',
  'linked.tif': 'it is a FIFO, a socket or a device',
}


@pytest.fixture
def broken(split_folders):
  """Adds files of class b that are not images; returns them by index."""
  bad = split_folders / 'train' / 'b'
  (bad / 'text.jpg').write_text('not an image')
  (bad / 'void.png').write_bytes(b'')
  (bad / 'link.bmp').symlink_to('nowhere')
  (bad / 'folder.gif').mkdir()
  os.mkfifo(bad / 'pipe.png')  # Opening it would block.
  (bad / 'linked.tif').symlink_to('pipe.png')
  source = folder.open_folder(str(split_folders), 'train')
  names = map(os.path.basename, map(source.describe, range(21)))
  return source, {i: name for i, name in enumerate(names) if name in BROKEN}


def test_files_that_are_not_images_are_found_when_they_are_read(broken):
  source, names = broken
  assert sorted(names.values()) == sorted(BROKEN)
  for index, name in names.items():
    with pytest.raises(tf.errors.OpError, match=BROKEN[name]):
      source.load({'index': index})
  for index in set(range(21)) - set(names):
    source.load({'index': index})
  labels = source.ordered().map(lambda record: source.load(record)[1])
  assert len(list(labels)) == 21  # Known without reading the files.


def test_files_that_are_not_images_are_named_or_skipped(broken, caplog):
  source, names = broken
  for index, name in names.items():
    if name not in ('text.jpg', 'pipe.png'):
      continue  # See the test above.
    batches = pipeline.eval_batches(
      source, decode.to_rgb, batch_size=1, only=np.array([index])
    )
    with pytest.raises(
      ValueError,
      match=rf'cannot read .*{name}, example {index} of folder:.* train: .*'
      rf'{BROKEN[name]}.*data\.skip_corrupt=true',
    ):
      list(batches)
  batches = list(
    pipeline.eval_batches(
      source,
      lambda raw: tf.ensure_shape(decode.to_rgb(raw), (4, 4, 3)),
      batch_size=21,
      skip_corrupt=True,
    )
  )
  assert list(np.flatnonzero(batches[0]['mask'] == 0)) == list(names)
  for name in BROKEN:
    assert name in caplog.text


@pytest.mark.parametrize(
  ('break_it', 'message'),
  [
    (lambda p: (p / 'train/void').mkdir(), 'without images in .*train: void'),
    (lambda p: (p / 'test/d').mkdir(), 'without images in .*test: d'),
    (
      lambda p: write(p / 'test/d/0.png'),
      'classes that are missing in train: d',
    ),
    (lambda p: (p / 'train').rename(p / 'old'), 'val, test but not train'),
  ],
)
def test_broken_folders(split_folders, break_it, message):
  break_it(split_folders)
  with pytest.raises(ValueError, match=message):
    folder.open_folder(str(split_folders), 'val')


def test_missing_folders(tmp_path):
  with pytest.raises(
    ValueError, match="folder '.*/nowhere' does not exist; expected PATH"
  ):
    folder.open_folder(str(tmp_path / 'nowhere'), 'train')
  with pytest.raises(ValueError, match='contains no class folders'):
    folder.open_folder(str(tmp_path), 'train')
  write(tmp_path / 'a' / '0.png')
  with pytest.raises(ValueError, match='test.*contains no examples'):
    folder.open_folder(str(tmp_path), 'test')
  with pytest.raises(ValueError, match=r"no split 'val'; splits: train \(1\)"):
    folder.open_folder(str(tmp_path), 'val')


@pytest.mark.skipif(not FLOWERS.exists(), reason='needs real images')
def test_flowers():
  train = folder.open_folder(str(FLOWERS), 'train')
  test = folder.open_folder(str(FLOWERS), 'test')
  assert (train.num_examples, test.num_examples) == (720, 240)
  assert train.class_names == test.class_names
  assert train.num_classes == 12
  np.testing.assert_array_equal(np.bincount(test.labels), [20] * 12)


def test_file_names_by_index(split_folders):
  source = folder.open_folder(str(split_folders), 'train+val', subset=9)
  assert source.file_names() == [name for name, _ in read(source)]


def test_images_of_some_classes_only(split_folders):
  whole = folder.open_folder(str(split_folders), 'train')
  some = whole.of_classes({'c': 1, 'a': 2, 'other': 3})
  assert some.class_names == ('a', 'c')
  assert some.num_examples == 10
  assert read(some) == [row for row in read(whole) if row[1] != 'b']
  with pytest.raises(
    ValueError, match=r'no image of the requested classes \(z,.*a, b, c'
  ):
    whole.of_classes(['z'])


def write_classes(root, count=3, below=''):
  for label in 'ab':
    for i in range(count):
      write(root / label / below / f'{label}{i}.png')


def names(source):
  return {name for name, _ in read(source)}


def test_images_at_any_depth_belong_to_their_class(tmp_path, caplog):
  write_classes(tmp_path, 2)
  write_classes(tmp_path, 8, '2021/spring')
  (tmp_path / 'a' / '2021' / 'IMG.HEIC').touch()
  write(tmp_path / 'a' / '.thumbnails' / 'a0.png')
  write(tmp_path / 'stray.jpg')
  with caplog.at_level(logging.INFO, logger='vit_jax'):
    train = folder.open_folder(str(tmp_path), 'train')
  assert train.num_examples == 16
  assert all(name[0] == label for name, label in read(train))
  test = folder.open_folder(str(tmp_path), 'test')
  assert test.num_examples == 4
  assert {train.stable_id(i) for i in range(16)}.isdisjoint(
    test.stable_id(i) for i in range(4)
  )
  assert '1 file (.heic); 1 file (outside class folders)' in caplog.text
  assert f'folder {tmp_path}/a/.thumbnails (hidden)' in caplog.text


@pytest.mark.parametrize(
  ('train', 'val', 'test'),
  [
    ('Train', 'Val', 'Test'),
    ('TRAINING', 'valid', 'testing'),
    ('training', 'Validation', 'TEST'),
  ],
)
def test_usual_names_of_splits(tmp_path, train, val, test):
  for name, count in (train, 4), (val, 3), (test, 2):
    write_classes(tmp_path / name, count)
  for split, count in ('train', 8), ('val', 6), ('test', 4):
    source = folder.open_folder(str(tmp_path), split)
    assert source.num_examples == count
    assert source.class_names == ('a', 'b')
  assert source.stable_id(0).startswith(f'{test}/')


def test_two_folders_for_a_split_are_refused(tmp_path):
  for name in ('train', 'val', 'valid'):
    write_classes(tmp_path / name)
  with pytest.raises(ValueError, match='folders for the split val: val, valid'):
    folder.open_folder(str(tmp_path), 'train')


def test_val_stands_in_for_a_missing_test_split(tmp_path, caplog):
  write_classes(tmp_path / 'train')
  write_classes(tmp_path / 'valid', 2)
  write_classes(tmp_path / 'extra')
  with caplog.at_level(logging.INFO, logger='vit_jax'):
    val = folder.open_folder(str(tmp_path), 'val')
    assert 'instead' not in caplog.text
    test = folder.open_folder(str(tmp_path), 'test')
  assert read(test) == read(val)
  assert 'has no split test; using valid instead' in caplog.text
  assert f'{tmp_path}/extra (next to the split folders)' in caplog.text


def test_classes_with_the_names_of_splits(tmp_path):
  for label in ('bus', 'train', 'Test'):
    for i in range(5):
      write(tmp_path / label / f'{i}.png')
  source = folder.open_folder(str(tmp_path), 'train')
  assert source.class_names == ('Test', 'bus', 'train')
  assert source.num_examples == 12


def test_links_are_followed_and_loops_are_not(tmp_path, caplog):
  root = tmp_path / 'photos'
  write_classes(root, 2)
  write_classes(tmp_path / 'elsewhere', 3)
  (root / 'a' / 'more').symlink_to(tmp_path / 'elsewhere' / 'a')
  (root / 'a' / 'again').symlink_to(tmp_path / 'elsewhere' / 'a')
  (tmp_path / 'elsewhere' / 'a' / 'loop').symlink_to('.')
  (root / 'a' / 'self').symlink_to('.')
  (root / 'a' / 'up').symlink_to('..')
  (root / 'all').symlink_to('.')
  (root / 'c').symlink_to(tmp_path / 'elsewhere' / 'b')
  (root / 'b' / 'endless').symlink_to('endless')
  with caplog.at_level(logging.INFO, logger='vit_jax'):
    source = folder.open_folder(str(root), 'train+test')
  assert source.class_names == ('a', 'b', 'c')
  np.testing.assert_array_equal(np.bincount(source.labels), [5, 2, 3])
  for name in ('a/more', 'a/self', 'a/up', 'a/again/loop'):
    assert str(root / name) in caplog.text
  assert f'{root}/all (link to a folder that contains it)' in caplog.text
  assert '1 file (no extension)' in caplog.text


def test_names_that_are_not_utf8_are_shown_escaped(tmp_path):
  write_classes(tmp_path / 'a,b')
  os.rename(
    tmp_path / 'a,b/a/a0.png', os.fsencode(tmp_path) + b'/a,b/a/\xe9.png'
  )
  os.rename(tmp_path / 'a,b/b', os.fsencode(tmp_path) + b'/a,b/\xe8')
  source = folder.open_folder(f'{tmp_path}/a,b', 'train+test')
  assert source.class_names == ('a', r'\xe8')
  shown = {source.describe(i) for i in range(source.num_examples)}
  assert rf'{tmp_path}/a,b/a/\xe9.png' in shown
  assert r'\xe9.png' in source.file_names()
  assert len(read(source)) == 6
  ids = frozenset([r'a/\xe9.png', r'\xe8/b1.png'])
  rest = folder.open_folder(
    f'{tmp_path}/a,b',
    'train+test',
    exclude=exclusions.Exclusions('list', ids, same_split=True),
  )
  assert rest.num_examples == 4
  with pytest.raises(ValueError, match=r'/\\xe8 is not UTF-8; rename'):
    folder.open_folder(os.fsdecode(os.fsencode(tmp_path) + b'/\xe8'), 'train')


def test_home_folder(tmp_path, monkeypatch):
  write_classes(tmp_path / 'photos')
  monkeypatch.setenv('HOME', str(tmp_path))
  source = folder.open_folder('~/photos', 'test')
  assert source.describe(0) == f'{tmp_path}/photos/{source.stable_id(0)}'


@pytest.mark.skipif(not CASES.exists(), reason='needs the cases')
@pytest.mark.parametrize(
  ('case', 'train', 'test'),
  [
    ('nested', 24, 6),
    ('nestedall', 24, 6),
    ('valonly', 30, 30),
    ('validlayout', 30, 30),
    ('caplayout', 30, 30),
    ('latin1', 25, 6),
  ],
)
def test_cases(case, train, test):
  sizes = [
    folder.open_folder(str(CASES / case), split).num_examples
    for split in ('train', 'test')
  ]
  assert sizes == [train, test]


@pytest.fixture(scope='module')
def many_files(tmp_path_factory):
  root = tmp_path_factory.mktemp('many')
  for i in range(2000):
    path = root / f'class{i % 5}' / f'{i // 500}' / f'{i}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  return root


def opened_below(root, action):
  """Returns the files below a folder that are opened during an action."""
  opened = []
  is_watching = [True]

  def hook(event, arguments):
    if is_watching and event == 'open' and str(root) in str(arguments[0]):
      opened.append(arguments[0])

  sys.addaudithook(hook)
  try:
    action()
  finally:
    is_watching.clear()  # A hook cannot be removed.
  return opened


def test_no_file_is_opened_and_little_memory_used(many_files):
  sources = []

  def open_splits():
    listed = {}
    for split in ('train', 'test'):
      name = f'folder:{many_files}'
      source = registry.open_source(name, split, listed=listed)
      source.fingerprint()
      sources.append(source)

  tracemalloc.start()
  assert not opened_below(many_files, open_splits)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert [s.num_examples for s in sources] == [1600, 400]
  assert peak < 2000 * 300  # With its fixed part.
  assert sources[0].names.joined is sources[1].names.joined
  file = many_files / 'class0' / '0' / '0.jpg'
  assert opened_below(many_files, file.read_bytes) == [str(file)]


def test_index_replaces_the_listing(split_folders, tmp_path, caplog):
  caplog.set_level(logging.INFO, logger='vit_jax')
  os.mkfifo(split_folders / 'train' / 'b' / 'pipe.png')
  os.rename(
    split_folders / 'train/c/trainc0.jpg',
    os.fsencode(split_folders) + b'/train/c/\xe9\n.jpg',
  )
  name, index = f'folder:{split_folders}', str(tmp_path / 'new' / 'index')

  def contents():
    sources = [
      registry.open_source(name, split, index=index)
      for split in ('train', 'val')
    ]
    return [
      (
        s.class_names,
        [s.describe(i) for i in range(s.num_examples)],
        s.labels.numpy().tolist(),
        s.fingerprint(),
        None if s.special is None else np.flatnonzero(s.special).tolist(),
      )
      for s in sources
    ]

  listed = [
    registry.open_source(name, split).fingerprint()
    for split in ('train', 'val')
  ]
  first = contents()
  assert [content[3] for content in first] == listed
  assert os.listdir(tmp_path / 'new') == ['index']
  assert f'36 files, now listed in {index}; remove' in caplog.text
  removed = split_folders / 'val' / 'a' / 'vala0.jpg'
  removed.unlink()
  (split_folders / 'train' / 'a' / 'added.png').touch()
  assert contents() == first
  assert f'36 files, as listed in {index}; remove' in caplog.text
  source = registry.open_source(name, 'val', index=index)
  with pytest.raises(ValueError, match=f'no such file, but {index} lists it'):
    pipeline.read_images(source, range(10), decode.to_rgb)
  os.remove(index)
  assert contents() != first


def test_an_index_that_does_not_fit_is_refused(split_folders, tmp_path):
  index = tmp_path / 'index'
  folder.list_files(str(split_folders), str(index))
  (tmp_path / 'other' / 'a').mkdir(parents=True)
  with pytest.raises(ValueError, match=rf'{index} lists .*, not .*/other; '):
    folder.list_files(str(tmp_path / 'other'), str(index))
  content = index.read_bytes()
  middle = len(content) // 2
  flipped = bytearray(content)
  flipped[middle] ^= 255
  for damaged in (b'', b'words', content[:-50], content[:99], flipped):
    index.write_bytes(damaged)
    with pytest.raises(ValueError, match='not the list of a folder; remove'):
      folder.list_files(str(split_folders), str(index))
  with pytest.raises(ValueError, match='cannot write .*choose a file'):
    folder.list_files(str(split_folders), '/dev/null/index')
  with pytest.raises(ValueError, match='is a folder; give the path of a file'):
    folder.list_files(str(split_folders), str(tmp_path))
  with pytest.raises(ValueError, match=r"folder:PATH, not for 'digits'"):
    registry.open_source('digits', 'train', index=str(index))
