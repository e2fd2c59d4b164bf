"""Image files as original data: splits, labels, files that cannot be read."""

import os

import pytest

from originals import image_file
from vit_jax.data.preparation import image_files, kinds


def write(root, *names):
  for seed, name in enumerate(names):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(image_file(seed))


def items(original):
  return {item.name: item for unit in original.units() for item in unit.items()}


def test_a_folder_without_splits_is_all_train(tmp_path, monkeypatch):
  write(tmp_path, 'b/1.png', 'b/2/3.png', 'a/1.png', 'a/.hidden.png', 'a/x.txt')
  original = kinds.open_original(f'folder:{tmp_path}')
  found = items(original)
  assert {n: (i.split, i.labels) for n, i in found.items()} == {
    'a/1.png': ('train', ('a',)),
    'b/1.png': ('train', ('b',)),
    'b/2/3.png': ('train', ('b',)),
  }
  assert found['b/1.png'].data == image_file(0)
  assert found['b/1.png'].file == str(tmp_path / 'b' / '1.png')
  assert not original.multi_label
  monkeypatch.setattr(image_files, '_FILES_PER_UNIT', 2)
  assert [len(unit.names) for unit in original.units()] == [2, 1]
  assert items(original) == found


def test_a_folder_with_splits(tmp_path):
  write(tmp_path, 'training/9/1.png', 'training/10/1.png', 'valid/9/2.png')
  original = kinds.open_original(f'folder:{tmp_path}')
  assert {n: (i.split, i.labels) for n, i in items(original).items()} == {
    'training/10/1.png': ('train', ('10',)),
    'training/9/1.png': ('train', ('9',)),
    'valid/9/2.png': ('val', ('9',)),
  }
  # As for `folder:`, which sorts classes by name.
  assert list(original.class_names({'9', '10'})) == ['10', '9']


def test_a_table(tmp_path):
  write(tmp_path, '1.png', '2.png', '3.png')
  table = tmp_path / 'table.csv'
  table.write_text(
    'path,labels,split\n1.png,9|10,train\n2.png,,train\n3.png,9,valid\n'
  )
  original = kinds.open_original(f'table:{table}')
  assert original.multi_label
  found = items(original)
  assert {n: (i.split, i.labels) for n, i in found.items()} == {
    '1.png': ('train', ('9', '10')),
    '2.png': ('train', ()),
    '3.png': ('val', ('9',)),
  }
  assert found['3.png'].data == image_file(2)
  assert list(original.class_names({'9', '10'})) == ['9', '10']
  table.write_text('path,label\n1.png,b\n2.png,a\n')
  original = kinds.open_original(f'table:{table},root={tmp_path}')
  assert not original.multi_label
  assert {i.split for i in items(original).values()} == {'train'}


def test_files_that_cannot_be_read(tmp_path):
  write(tmp_path, 'a/1.png', 'a/gone.png')
  os.mkfifo(tmp_path / 'a' / 'pipe.png')
  original = kinds.open_original(f'folder:{tmp_path}')
  (tmp_path / 'a' / 'gone.png').unlink()
  errors = {name: item.error for name, item in items(original).items()}
  assert errors['a/1.png'] == ''
  assert 'No such file' in errors['a/gone.png']
  assert 'FIFO' in errors['a/pipe.png']


def test_a_name_that_is_not_utf8(tmp_path):
  folder = os.fsencode(tmp_path) + b'/a'
  os.mkdir(folder)
  with open(folder + b'/\xe9.png', 'wb') as file:
    file.write(image_file(1))
  original = kinds.open_original(f'folder:{tmp_path}')
  ((name, item),) = items(original).items()
  assert name == r'a/\xe9.png'
  assert item.data == image_file(1)


@pytest.mark.parametrize('source', ['folder:', 'tars:'])
def test_a_source_without_a_path_is_refused(source):
  with pytest.raises(ValueError, match=f'{source!r} has no path; write'):
    kinds.open_original(source)
