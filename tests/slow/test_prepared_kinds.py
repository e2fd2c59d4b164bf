"""720 photos as tars, a folder, WebDataset and a table give equal datasets.

python -m pytest -o addopts= tests/slow/test_prepared_kinds.py
"""

import csv
import io
import tarfile

import pytest
import tensorflow_datasets as tfds

import runs

PHOTOS = runs.SHARED / 'data' / 'flowers12' / 'train'
KINDS = ('folder', 'tars', 'webdataset', 'table')

pytestmark = pytest.mark.skipif(
  not PHOTOS.exists(), reason='needs the photos of flowers12'
)


def write_tar(path, files):
  with tarfile.open(path, 'w') as archive:
    for name, content in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))


def source(kind, folder):
  """Writes the photos as some kind of original; returns the source."""
  if kind == 'folder':
    return f'folder:{PHOTOS}'
  photos = sorted(PHOTOS.rglob('*.jpg'))
  assert len(photos) == 720
  if kind == 'table':
    with (folder / 'table.csv').open('w') as file:
      rows = csv.writer(file)
      rows.writerow(['path', 'label'])
      rows.writerows(
        [p.relative_to(PHOTOS), p.parent.name] for p in reversed(photos)
      )
    return f'table:{file.name},root={PHOTOS}'
  parts = {}
  for number, photo in enumerate(photos):
    if kind == 'tars':
      files = parts.setdefault(photo.parent.name, {})
      files[photo.name] = photo.read_bytes()
    else:
      files = parts.setdefault(f'{number % 7:03}', {})
      files[f'{number}.jpg'] = photo.read_bytes()
      files[f'{number}.cls'] = photo.parent.name.encode()
  for name, files in parts.items():
    write_tar(folder / f'{name}.tar', files)
  return f'{kind}:{folder}'


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """Returns the data folder, with a dataset named after every kind."""
  data = tmp_path_factory.mktemp('data')
  for kind in KINDS:
    folder = tmp_path_factory.mktemp(kind)
    config = runs.load_config('prepare', source(kind, folder))
    runs.override(
      config,
      data__dir=str(data),
      prepare__name=f'from_{kind}',
      prepare__workers=1,
      prepare__shard_mib=2,
    )
    results = runs.run(config, tmp_path_factory.mktemp('run'))
    # Two of the photos are byte-identical.
    assert results['splits'] == {'train': 719}
    assert results['classes'] == 12
  return data


def test_images_and_labels_are_the_same(prepared):
  contents = []
  for kind in KINDS:
    builder = tfds.builder_from_directory(prepared / f'from_{kind}' / '1.0.0')
    names = builder.info.features['label'].names
    examples = builder.as_dataset(
      'train', decoders={'image': tfds.decode.SkipDecoding()}
    ).as_numpy_iterator()
    contents.append([(e['image'], names[e['label']]) for e in examples])
  assert all(content == contents[0] for content in contents)
  labels = {p.read_bytes(): p.parent.name for p in PHOTOS.rglob('*.jpg')}
  assert dict(contents[0]) == labels


def test_training_is_the_same(prepared, tmp_path):
  histories = []
  for kind in KINDS:
    config = runs.load_config('vit_b32')
    runs.shrink(config)
    runs.override(
      config,
      data__name=f'tfds:from_{kind}',
      data__dir=str(prepared),
      data__train='train[:90%]',
      data__eval='val=train[90%:]',
      data__image_size=32,
      log_every=1,
      eval_every=1,
    )
    runs.run(config, tmp_path / kind)
    histories.append(runs.events(tmp_path / kind))
  assert len(histories[0]) >= 2
  assert all(history == histories[0] for history in histories)
