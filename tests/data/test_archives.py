"""Archives as original data: tars of classes, and shards of WebDataset."""

import gzip
import io
import tarfile
import tracemalloc

import pytest

from vit_jax.data.preparation import kinds, shard_files, tar_archive, webdataset


def tar(files, format=tarfile.PAX_FORMAT):
  """Returns an archive of {name: content}, as bytes."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w', format=format) as archive:
    for name, content in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))
  return file.getvalue()


def read(source):
  """Returns the items of original data; checks that offsets are right."""
  original = kinds.open_original(source)
  items = [item for unit in original.units() for item in unit.items()]
  for item in items:
    if item.file:
      with open(item.file, 'rb') as file:
        file.seek(item.offset)
        assert file.read(len(item.data)) == item.data
  return original, items


CLASSES = {
  'n01440764': {'n01440764_1.JPEG': b'a', 'n01440764_2.JPEG': b'b' * 512},
  'n01443537': {'n01443537_7.JPEG': b'c' * 700, '._x.JPEG': b'', 'notes': b''},
}
ITEMS = [
  ('n01440764/n01440764_1.JPEG', ('n01440764',), b'a'),
  ('n01440764/n01440764_2.JPEG', ('n01440764',), b'b' * 512),
  ('n01443537/n01443537_7.JPEG', ('n01443537',), b'c' * 700),
]


@pytest.mark.parametrize(
  'layout', ['folder', 'folder.gz', 'tar', 'tar.gz', 'tar of gz']
)
def test_tars_of_classes(layout, tmp_path):
  archives = {f'{name}.tar': tar(files) for name, files in CLASSES.items()}
  if layout in ('folder.gz', 'tar of gz'):
    archives = {f'{k}.gz': gzip.compress(v) for k, v in archives.items()}
  path = tmp_path
  if layout.startswith('folder'):
    for name, content in archives.items():
      (path / name).write_bytes(content)
  else:
    path = path / 'whole.tar'
    whole = tar({f'fall11/{k}': v for k, v in archives.items()})
    path.write_bytes(gzip.compress(whole) if layout == 'tar.gz' else whole)
  original, items = read(f'tars:{path}')
  assert [(item.name, item.labels, item.data) for item in items] == ITEMS
  assert all(bool(item.file) == ('gz' not in layout) for item in items)
  assert not any(item.error for item in items)
  # The compressed archive of archives can only be read in one piece.
  assert len(list(original.units())) == (1 if layout == 'tar.gz' else 2)


WORDS = {
  'words.txt': 'n01440764\ttench, Tinca tinca\nn00000001\tentity\n',
  'synset_words.txt': 'n01440764 tench, Tinca tinca\n',
  'imagenet21k_wordnet_lemmas.txt': 'tench, Tinca_tinca\ngold_fish\n',
}


@pytest.mark.parametrize('name', [None, *WORDS])
def test_words_beside_the_tars_name_classes(name, tmp_path):
  (tmp_path / 'n01440764.tar').write_bytes(tar(CLASSES['n01440764']))
  ids = 'n01440764\nn01443537\n'
  (tmp_path / 'imagenet21k_wordnet_ids.txt').write_text(ids)
  if name:
    (tmp_path / name).write_text(WORDS[name])
  original = kinds.open_original(f'tars:{tmp_path}')
  names = original.class_names({'n01443537', 'n01440764', 'pets'})
  tench = 'n01440764 tench' if name else 'n01440764'
  fish = 'n01443537'
  if name == 'imagenet21k_wordnet_lemmas.txt':
    fish += ' gold fish'
  assert list(names.items()) == [
    ('n01440764', tench), ('n01443537', fish), ('pets', 'pets'),
  ]  # fmt: skip


@pytest.mark.parametrize('format', [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names(format, tmp_path):
  name = f'{"d" * 90}/{"ü" * 90}/{"x" * 120}.jpg'
  (tmp_path / 'a.tar').write_bytes(tar({name: b'1', 'b.jpg': b'2'}, format))
  _, items = read(f'tars:{tmp_path}')
  assert [item.name for item in items] == [f'a/{name}', 'a/b.jpg']


def test_links_and_sparse_files_are_listed(tmp_path):
  with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
    info = tarfile.TarInfo('real.jpg')
    info.size = 3
    archive.addfile(info, io.BytesIO(b'abc'))
    for name, kind in (
      ('hard.jpg', tarfile.LNKTYPE),
      ('soft.jpg', tarfile.SYMTYPE),
      ('sparse.jpg', tarfile.GNUTYPE_SPARSE),
      ('folder.jpg', tarfile.DIRTYPE),
    ):
      info = tarfile.TarInfo(name)
      info.type, info.linkname = kind, 'real.jpg'
      archive.addfile(info)
  _, items = read(f'tars:{tmp_path}')
  assert [(item.name, item.error) for item in items] == [
    ('a/real.jpg', ''),
    ('a/hard.jpg', 'a link to real.jpg, not a file'),
    ('a/soft.jpg', 'a link to real.jpg, not a file'),
    ('a/sparse.jpg', 'a sparse file, whose content is not stored in one piece'),
  ]


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda data: data[:700], r'at byte 512: it ends within 1.jpg, after 188'),
    (lambda data: data[:1024], r'at byte 512: it ends within 1.jpg, after 512'),
    (lambda data: data[:2048], r'at byte 2,048: .*without an end mark'),
    (lambda data: data[:2100], r'at byte 2,048: .*without an end mark'),
    (lambda data: data[:2148] + b'?' + data[2149:], r'2,048: damaged header'),
    (lambda data: b'no archive' * 100, r'at byte 0: '),
    (lambda data: b'', r'at byte 0: '),
    (lambda data: data + data, 'data after the end mark'),
    (
      lambda data: gzip.compress(data)[:100],
      r'uncompressed: no complete.*end-of-stream',
    ),
    (
      lambda data: b'\x1f\x8b' + data[2:],
      r'uncompressed: no complete.*at byte 0: ',
    ),
  ],
)
def test_damaged_archives_are_refused(damage, message, tmp_path):
  # Headers at 0 and 2,048, contents at 512 and 2,560, the end mark at 4,096.
  data = tar({'1.jpg': b'1' * 1500, '2.jpg': bytes(range(256)) * 6})[:5120]
  (tmp_path / 'a.tar').write_bytes(data)
  assert len(read(f'tars:{tmp_path}')[1]) == 2
  (tmp_path / 'a.tar').write_bytes(damage(data))
  with pytest.raises(ValueError, match=rf'a\.tar.*{message}'):
    read(f'tars:{tmp_path}')


def test_damage_within_an_archive_of_archives_has_its_position(tmp_path):
  inner = tar(CLASSES['n01440764'])
  path = tmp_path / 'whole.tar'
  path.write_bytes(tar({'a.tar': inner, 'b.tar': inner[:1700]}))
  with pytest.raises(
    ValueError, match=rf'whole.tar.*at byte {512 + len(inner) + 512 + 1536:,}:'
  ):
    read(f'tars:{path}')


@pytest.mark.parametrize(
  ('files', 'path', 'message'),
  [
    ({}, 'nothing', "nothing' does not exist; expected a folder of one tar"),
    ({'a.txt': b''}, '', 'contains no tar archives; expected a folder of one'),
    ({'a.tar': tar({'1.jpg': b''})}, 'a.tar', 'no tar archives.*folder:PATH'),
    ({'a.tar': tar({'b.tar': b''})}, '', 'contains b.tar, but no file that'),
  ],
)
def test_other_layouts_are_refused(files, path, message, tmp_path):
  for name, content in files.items():
    (tmp_path / name).write_bytes(content)
  with pytest.raises(ValueError, match=message):
    read(f'tars:{tmp_path / path}')


def test_memory_does_not_grow_with_the_archive(tmp_path):
  def peak(count):
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
      for i in range(count):
        archive.addfile(tarfile.TarInfo(f'{i}.jpg'))
    tracemalloc.start()
    with tar_archive.open_file(tmp_path / 'a.tar') as archive:
      assert sum(1 for _ in tar_archive.members(archive)) == count
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most

  assert peak(3000) < peak(300) + 20_000  # Not 2,700 members.


@pytest.mark.parametrize(
  ('files', 'labels'),
  [
    ({'cls': b'7\n'}, ('7',)),
    ({'txt': b'red fox'}, ('red fox',)),
    ({'json': b'3'}, ('3',)),
    ({'json': b'{"width": 9, "label": "fox"}'}, ('fox',)),
    ({'json': b'{"labels": [4, 1]}'}, ('4', '1')),
    ({'json': b'[]'}, ()),
    ({'json': b'{"width": 9}', 'txt': b'fox'}, ('fox',)),
    ({'txt': b'a caption', 'json': b'{"cls": 2}', 'cls': b'5'}, ('5',)),
  ],
)
def test_labels_of_webdataset(files, labels):
  assert webdataset.parse_labels(files) == labels


def test_webdataset(tmp_path):
  shards = {
    'train-000.tar': tar(
      {
        'a/1.jpg': b'1', 'a/1.cls': b'10', 'b/1.cls': b'9', 'b/1.PNG': b'2',
        '__key__': b'', 'none.jpg': b'3', 'bad.jpg': b'4', 'bad.json': b'{',
      }
    ),
    'val-000.tar.gz': gzip.compress(tar({'x.jpg': b'5', 'x.json': b'[9, 10]'})),
  }  # fmt: skip
  for name, content in shards.items():
    (tmp_path / name).write_bytes(content)
  original, items = read(f'webdataset:{tmp_path}')
  rows = [(i.name, i.split, i.labels, i.data) for i in items if not i.error]
  assert rows == [
    ('train-000.tar/a/1.jpg', 'train', ('10',), b'1'),
    ('train-000.tar/b/1.PNG', 'train', ('9',), b'2'),
    ('val-000.tar.gz/x.jpg', 'val', ('9', '10'), b'5'),
  ]
  errors = {item.name: item.error for item in items if item.error}
  assert 'no label' in errors['train-000.tar/none.jpg']
  assert 'Expecting' in errors['train-000.tar/bad.jpg']
  assert list(original.class_names({'10', '9'})) == ['9', '10']


def test_shards_are_found_by_folder_pattern_and_range(tmp_path):
  root = tmp_path / 'test'  # Says nothing about splits.
  names = ('0000.tar', '0001.tar', 'valid/0000.tar', 'x-test-1.tar')
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b'')

  def find(path):
    files = shard_files.find(f'{root}{path}', ('.tar',))
    return [(file.path.removeprefix(f'{root}/'), file.split) for file in files]

  first = [('0000.tar', 'train'), ('0001.tar', 'train')]
  valid, test = ('valid/0000.tar', 'val'), ('x-test-1.tar', 'test')
  assert find('') == [*first, valid, test]
  assert find('/000*.tar') == first
  assert find('/*/*.tar') == [valid]
  assert find('/{0000..0001}.tar') == first
  assert find('/{0001,x-test-1}.tar') == [first[1], test]
  assert find('/x-test-1.tar') == [test]
  with pytest.raises(ValueError, match=r'0002\.tar.* does not exist'):
    find('/{0000..0002}.tar')
  with pytest.raises(ValueError, match='no files that end in .tar'):
    find('/y*.tar')


@pytest.mark.parametrize(
  ('name', 'split'),
  [
    ('train-00000-of-00005.parquet', 'train'),
    ('validation-00001-of-00005-ab12.parquet', 'val'),
    ('unsupervised-00001-of-00005.parquet', 'unsupervised'),
    ('imagenet_testing.7.tar', 'test'),
    ('contest.tar', 'train'),
  ],
)
def test_splits_of_file_names(name, split):
  assert shard_files.split_of([name]) == split
