"""Tables of images: formats, columns, labels, splits, and broken tables."""

import collections
import os

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from vit_jax.config import values
from vit_jax.data import (
  decode,
  exclusions,
  file_source,
  folder,
  photos,
  pipeline,
  registry,
  table,
  table_source,
)


@pytest.fixture
def write(tmp_path):
  """Writes a table and returns its path."""

  def write(content, name='table.csv'):
    path = tmp_path / name
    path.write_bytes(
      content if isinstance(content, bytes) else content.encode()
    )
    return str(path)

  return write


def rows(source):
  """Returns the name of every image with its class or classes."""
  found = {}
  for i in range(source.num_examples):
    label = source.load({'index': i})[1].numpy()
    if source.multi_label:
      assert label.dtype == np.float32
      assert set(label) <= {0, 1}
      label = [source.class_names[k] for k in np.flatnonzero(label)]
    else:
      assert label.dtype == np.int32
      label = source.class_names[label]
    found[source.stable_id(i)] = label
  return found


@pytest.fixture(autouse=True)
def unread(monkeypatch):
  """Reads no image, since most of these do not exist."""
  monkeypatch.setattr(
    file_source.FileSource, '_read', lambda self, path: tf.constant('')
  )


def open_all(path, options='', split='train+test'):
  return registry.open_source(f'table:{path}{options}', split)


SINGLE = {'a.jpg': 'cat', 'b,c.jpg': 'dog', 'd/e.jpg': 'cat'}


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('t.csv', 'path,label\na.jpg,cat\n"b,c.jpg",dog\nd/e.jpg,cat\n'),
    ('t.CSV', '\ufeffLabel, File\r\ncat,./a.jpg\r\ndog,"b,c.jpg"\r\n\r\n'
     'cat ,d/e.jpg'),
    ('t.tsv', 'other\tpath\tlabel\n"x\ty\nz"\ta.jpg\tcat\n\tb,c.jpg\tdog\n'
     '1\td/e.jpg\tcat\n'),
    ('t.jsonl', '{"image": "a.jpg", "class": "cat"}\n\n'
     '{"class": "dog", "image": "b,c.jpg"}\r\n'
     '{"class": "cat", "more": [1], "image": "d/e.jpg"}'),
    ('t,x.ndjson', '{"path": "ROOT/a.jpg", "label": "cat"}\n'
     '{"path": "b,c.jpg", "label": "dog"}\n'
     '{"path": "d/e.jpg", "label": "cat"}\n'),
  ],
)  # fmt: skip
def test_formats(write, tmp_path, name, content):
  path = write(content.replace('ROOT', str(tmp_path)), name)
  source = open_all(path)
  assert source.class_names == ('cat', 'dog')
  assert rows(source) == SINGLE
  assert {source.describe(i) for i in range(3)} == {
    f'{tmp_path}/{image}' for image in SINGLE
  }


def test_columns_and_root_can_be_named(write, tmp_path):
  (tmp_path / 'images,all').mkdir()
  path = write(
    'id,path,kind,label,part\n1,x.png,a,1,train\n2,y.png,b,2,train\n'
  )
  options = f',root={tmp_path}/images,all,path=id,label=kind,split=part'
  source = open_all(path, options, 'train')
  assert rows(source) == {'1': 'a', '2': 'b'}
  assert source.describe(0).startswith(f'{tmp_path}/images,all/')


def test_absolute_paths_elsewhere(write, tmp_path):
  path = write('path,label\n/far/a.jpg,x\nb.jpg,y\ngs://bucket/c.jpg,x\n')
  assert rows(open_all(path)) == {
    '/far/a.jpg': 'x', f'{tmp_path}/b.jpg': 'y', 'gs://bucket/c.jpg': 'x',
  }  # fmt: skip


def test_numbers_are_sorted_by_value(write):
  content = ''.join(f'{{"path": "{i}.jpg", "label": {i}}}\n' for i in range(11))
  source = open_all(write(content, 't.jsonl'))
  assert source.class_names == tuple(map(str, range(11)))
  assert rows(source)['10.jpg'] == '10'


MULTI = {'a': ['x', 'y'], 'b': [], 'c': ['z'], 'd': ['x']}


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('t.csv', 'path,labels\na,y| x\nb,\nc,z\nd,x|x\n'),
    ('t.tsv', 'path\ttags\na\t"[""y"", ""x""]"\nb\t[]\nc\tz\nd\tx\n'),
    ('t.jsonl', '{"path": "a", "label": ["y", "x"]}\n{"path": "b"}\n'
     '{"path": "c", "label": "z"}\n{"path": "d", "label": ["x"]}\n'),
  ],
)  # fmt: skip
def test_multiple_labels(write, name, content):
  source = open_all(write(content, name))
  assert source.multi_label
  assert source.class_names == ('x', 'y', 'z')
  assert rows(source) == MULTI
  np.testing.assert_array_equal(pipeline.label_counts(source), [2, 1, 1])
  # The hash covers labels, and images without any.
  other = open_all(write('path,labels\na,y|x\nb,\nc,z|x\nd,\n'))
  before, after = source.fingerprint(), other.fingerprint()
  assert before['classes']['y'] == after['classes']['y']
  assert before['classes']['x'] != after['classes']['x']
  assert (before['unlabelled'][0], after['unlabelled'][0]) == (1, 2)


def test_splits_of_a_column(write, caplog):
  parts = {'train': 5, 'Validation': 3, 'extra': 2}
  content = 'path,label,split\n' + ''.join(
    f'{part}{i}.jpg,{i % 2},{part}\n'
    for part, count in parts.items()
    for i in range(count)
  )
  path = write(content)
  for split, count in {
    'train': 5,
    'val': 3,
    'extra': 2,
    'train[:2]': 2,
  }.items():
    assert open_all(path, split=split).num_examples == count
  caplog.set_level('INFO', logger='vit_jax')
  assert rows(open_all(path, split='test')) == rows(open_all(path, split='val'))
  assert 'has no split test; using val instead' in caplog.text


def test_without_splits_as_in_a_folder(write, tmp_path):
  names = [f'{label}/{i}.png' for label in 'ab' for i in range(10)]
  for name in names:
    (tmp_path / 'tree' / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'tree' / name).touch()
  path = write('path,label\n' + ''.join(f'{n},{n[0]}\n' for n in names[::-1]))
  for split in ('train', 'test'):
    listed = open_all(path, f',root={tmp_path}/tree', split)
    found = folder.open_folder(str(tmp_path / 'tree'), split)
    assert list(rows(listed).items()) == list(rows(found).items())
    assert listed.num_examples == {'train': 16, 'test': 4}[split]
  write('path,label\n' + ''.join(f'{n},a|b\n' for n in names))
  assert open_all(path, split='test').num_examples == 4


def test_subset_and_exclusions(write):
  path = write('path,label\n' + ''.join(f'{i},{i % 2}\n' for i in range(20)))
  files = table_source.read_files(path)
  rest = table_source.open_table(
    path,
    'train+test',
    files=files,
    exclude=exclusions.Exclusions('list', frozenset('37'), same_split=True),
    subset=18,
  )
  assert set(rows(rest)) == set(map(str, range(20))) - {'3', '7'}
  assert files.labels_of(slice(0, 2)) == [['0'], ['1']]
  assert collections.Counter(rest.labels.numpy()) == {0: 10, 1: 8}


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('t.csv', '', 't.csv has no rows'),
    ('t.csv', 'path,label\n', 't.csv has no rows'),
    ('t.csv', 'a,b\n1,2\n', 'no column named path, .*; its columns are a, b'),
    ('t.csv', 'path,b\n1,2\n', 'column named label.*columns are path, b'),
    ('t.csv', 'path,file,label\n1,2,3\n', 'may hold the path: path, file'),
    ('t.csv', 'path,path,label\n1,2,3\n', "line 1: .* are named 'path'"),
    ('t.csv', 'path,label\na,x\nb\n', 'line 3: 1 cells instead of 2'),
    ('t.csv', 'path,label\na,x\n"b,x\n', 'line 3: unexpected end of data'),
    ('t.csv', 'path,label\na,x\n,x\n', "line 3: '' is not the path"),
    ('t.csv', 'path,label\na\0,x\n', 'line 2: .* is not the path'),
    ('t.csv', 'path,label\nhttp://a.b/c,x\n', 'line 2: .* is a URL'),
    ('t.csv', 'path,label\na,x\nb,\n', 'line 3: there is no label. Give one'),
    ('t.csv', 'path,label\na,x\nb,y||z\n', "line 3: '' is not a label"),
    ('t.csv', 'path,label\na,"[\'x\']"\n', 'line 2: .* not a list .* JSON'),
    ('t.csv', 'path,label\na,\nb,[]\n', 'has no labels'),
    ('t.csv', 'path,label\na,x\nb,x\n./a,y\n', 'line 4: repeats .* line 2'),
    ('t.csv', b'path,label\n\xe9,x\n', 'is not text in UTF-8'),
    ('t.csv', 'path,label,split\na,x,train\nb,y,test\nc,z,test\n',
     'line 3: labels are missing in train, from this line on: y, z'),
    ('t.csv', 'path,label,split\na,x,train\nb,x,\n', 'line 3: .* no split'),
    ('t.csv', 'path,label,split\na,x,a b\n', "line 2: 'a b' is not a split"),
    ('t.csv', 'path,label,split\na,x,test\n', 'splits test but not train'),
    ('t.jsonl', '{"path": "a", "label": 1}\n[1]\n', 'line 2: .* got list'),
    ('t.jsonl', '\n{"path"\n', 'line 2: not JSON'),
    ('t.jsonl', '{"path": 1, "label": 1}\n', 'line 1: 1 is not the path'),
    ('t.jsonl', '{"path": "a", "label": true}\n', '1: True is not a label'),
    ('t.jsonl', '{"path": "a", "label": {}}\n', 'line 1: {} is not a label'),
    ('t.jsonl', '{"path": "\\ud800", "label": 1}\n', 'line 1: .* not text'),
    ('t.json', '{}', r'expected a name that ends in \.csv, \.tsv'),
  ],
)  # fmt: skip
def test_broken_tables(write, name, content, message):
  path = write(content, name)
  with pytest.raises(ValueError, match=message) as error:
    open_all(path)
  assert len(str(error.value)) < 400 + 2 * len(path)


def test_broken_arguments(write, tmp_path):
  path = write('path,label\na,x\nb,x\n')
  for options, message in {
    ',label=kind': 'no column named kind; its columns are path, label',
    ',split=part': 'no column named part; its columns are path, label',
    ',root=/nowhere': "folder '/nowhere' does not exist; write table:FILE",
    ',label=label,label=path': 'is not a table; write table:FILE',
    ',colour=x': r'colour=x is not a table; expected a name that ends',
    '.tsv': r"table '.*\.csv\.tsv' does not exist",
  }.items():
    with pytest.raises(ValueError, match=message):
      open_all(path, options)
  os.mkfifo(tmp_path / 'pipe.csv')
  with pytest.raises(ValueError, match='is a named pipe'):
    open_all(tmp_path / 'pipe.csv')
  with pytest.raises(ValueError, match=r"no split 'val'; splits: train \(1\)"):
    open_all(path, split='val')


def test_missing_file_is_found_when_it_is_read(write, tmp_path, monkeypatch):
  monkeypatch.undo()
  Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
  path = write('path,label,split\na.png,x,train\nb.png,x,train\n')
  source = open_all(path, split='train')
  index = [source.stable_id(i) for i in range(2)].index('b.png')
  with pytest.raises(
    ValueError,
    match=rf'cannot read {tmp_path}/b\.png, example {index} of table:{path}'
    f' train: there is no such file, but {path} lists it',
  ):
    pipeline.read_images(source, range(2), decode.to_rgb)


def test_in_lists_of_datasets_and_paths(write, tmp_path):
  path = write('path,name\na.png,x\nb.png,x\n')
  (tmp_path / 'photo.png').touch()
  text = f'{tmp_path}/photo.png,table:{path},path=path, table:{path}'
  items = values.parse('predict.paths', text)
  assert len(items) == 3
  images = [f'{tmp_path}/a.png', f'{tmp_path}/b.png']
  assert photos.find(items) == [f'{tmp_path}/photo.png', *images, *images]
  assert values.parse('few_shot.datasets', 'x=digits,label=cifar10') == (
    'x=digits', 'label=cifar10',
  )  # fmt: skip
  named = values.parse('few_shot.datasets', 'x=table:t.csv,label=a,b=digits')
  assert named == ('x=table:t.csv,label=a', 'b=digits')
  assert table.short_name(f'{path},label=x') == 'table'
