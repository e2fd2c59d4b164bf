"""Parquet files of images and labels as original data."""

import json
import sys

import pytest

from vit_jax.data.preparation import kinds

pa = pytest.importorskip('pyarrow')
pq = pytest.importorskip('pyarrow.parquet')

IMAGE = pa.struct({'bytes': pa.binary(), 'path': pa.string()})
NAMES = {'_type': 'ClassLabel', 'names': ['tench', 'goldfish']}
LISTS = [
  [NAMES], {'_type': 'Sequence', 'feature': NAMES},
  {'_type': 'List', 'feature': NAMES},
]  # fmt: skip


def write(path, images, label, features=None, label_name='label', **others):
  """Writes a file; `label` is an array of pyarrow."""
  columns = {'image': images, label_name: label, **others}
  table = pa.table(columns)
  if features:
    metadata = json.dumps({'info': {'features': features}})
    table = table.replace_schema_metadata({'huggingface': metadata})
  pq.write_table(table, path, row_group_size=2)


def images(*contents):
  rows = [
    {'bytes': content, 'path': f'{i}.jpg' if i else None}
    for i, content in enumerate(contents)
  ]
  return pa.array(rows, IMAGE)


def read(source):
  original = kinds.open_original(source)
  return original, [i for unit in original.units() for i in unit.items()]


def test_layout_of_the_hub(tmp_path):
  features = {'image': {'_type': 'Image'}, 'label': NAMES}
  (tmp_path / 'data').mkdir()
  for name, labels in (('train', [1, 0, 1]), ('test', [0, -1, None])):
    write(
      tmp_path / f'data/{name}-00000-of-00001.parquet',
      images(b'a', b'b', None if name == 'train' else b'c'),
      pa.array(labels, pa.int64()),
      features,
    )
  original, items = read(f'parquet:{tmp_path}')
  file = 'test-00000-of-00001.parquet', 'train-00000-of-00001.parquet'
  assert [
    (i.name, i.split, i.labels, i.data) for i in items[:1] + items[3:5]
  ] == [
    (f'{file[0]}/0', 'test', ('0',), b'a'),
    (f'{file[1]}/0', 'train', ('1',), b'a'),
    (f'{file[1]}/1/1.jpg', 'train', ('0',), b'b'),
  ]
  assert [i.error[:8] for i in items if i.error] == [
    'label -1', 'label No', 'no bytes',
  ]  # fmt: skip
  assert not original.multi_label
  assert original.class_names({'0', '1'}) == {'0': 'tench', '1': 'goldfish'}


@pytest.mark.parametrize('feature', LISTS)
def test_lists_of_labels(feature, tmp_path):
  labels = pa.array([[0, 1], []], pa.large_list(pa.int32()))
  path = tmp_path / 'x.parquet'
  write(path, images(b'a', b'b'), labels, {'label': feature})
  original, items = read(f'parquet:{path}')
  assert original.multi_label
  assert [i.labels for i in items] == [('0', '1'), ()]


def test_columns_without_the_metadata_of_the_hub(tmp_path):
  path = tmp_path / 'x.parquet'
  content = pa.array([b'a', b'b'], pa.large_binary())
  fine = pa.array(['fox', 'cat'], pa.large_string())
  coarse = pa.array(['wild', 'tame']).dictionary_encode()
  write(path, content, fine, label_name='fine', coarse=coarse)
  with pytest.raises(ValueError, match='has the label.* image, fine, coarse'):
    read(f'parquet:{path}')
  original, items = read(f'parquet:{path},label=fine')
  assert [(i.labels, i.data) for i in items] == [
    (('fox',), b'a'),
    (('cat',), b'b'),
  ]
  assert original.class_names({'fox', 'cat'}) == {'cat': 'cat', 'fox': 'fox'}
  _, items = read(f'parquet:{path},image=image,label=coarse')
  assert [i.labels for i in items] == [('wild',), ('tame',)]
  with pytest.raises(ValueError, match="no column 'image' of labels"):
    read(f'parquet:{path},label=image')


def test_files_must_agree_on_the_classes(tmp_path):
  labels = pa.array([0])
  write(tmp_path / 'a.parquet', images(b'a'), labels, {'label': NAMES})
  other = NAMES | {'names': ['goldfish', 'tench']}
  write(tmp_path / 'b.parquet', images(b'a'), labels, {'label': other})
  with pytest.raises(ValueError, match='b.parquet and .*a.parquet have other'):
    read(f'parquet:{tmp_path}')


def test_damaged_files_are_refused(tmp_path):
  path = tmp_path / 'x.parquet'
  write(path, images(bytes(5000), b'b'), pa.array([0, 1]))
  data = path.read_bytes()
  for damaged in (data[:-9], data[:20] + bytes(50) + data[70:]):
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match='x.parquet is not a complete Parq'):
      read(f'parquet:{path}')


def test_a_missing_library_is_explained(tmp_path, monkeypatch):
  (tmp_path / 'x.parquet').write_bytes(b'')
  monkeypatch.setitem(sys.modules, 'pyarrow', None)
  with pytest.raises(ValueError, match="requires pyarrow.*pip install 'pyarr"):
    kinds.open_original(f'parquet:{tmp_path}')
