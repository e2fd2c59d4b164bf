"""Data sets prepared from archives: ImageNet-21k in miniature, WebDataset."""

import io
import tarfile

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

import runs

CLASSES = [f'n{k:08d}' for k in range(1, 13)]
PER_CLASS = 5


def photo(seed):
  """Returns a small JPEG file."""
  pixels = np.random.RandomState(seed).randint(0, 256, (8, 8, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels).resize((40, 36)).save(file, 'JPEG')
  return file.getvalue()


PHOTOS = {
  (label, i): photo(PER_CLASS * k + i)
  for k, label in enumerate(CLASSES)
  for i in range(PER_CLASS)
}


def write_tar(path, files):
  with tarfile.open(path, 'w') as archive:
    for name, content in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      archive.addfile(info, io.BytesIO(content))


def prepare(source, folder, **keys):
  """Prepares data; returns the results."""
  config = runs.load_config('prepare', source)
  runs.override(config, data__dir=str(folder / 'data'), **keys)
  config.prepare.workers = 1
  return runs.run(config, folder / 'prepare')


@pytest.fixture(scope='module')
def imagenet21k(tmp_path_factory):
  """Returns the folder of data prepared from a tar per class."""
  folder = tmp_path_factory.mktemp('imagenet21k')
  tars = folder / 'tars'
  tars.mkdir()
  for label in CLASSES:
    files = {f'{label}_{i}.JPEG': PHOTOS[label, i] for i in range(PER_CLASS)}
    if label == CLASSES[0]:  # A copy, one that is damaged, one in a third.
      files['again.JPEG'] = PHOTOS[label, 0]
      files['damaged.JPEG'] = PHOTOS[label, 1][:99]
    elif label == CLASSES[1]:
      files['elsewhere.JPEG'] = PHOTOS[CLASSES[2], 3]
    write_tar(tars / f'{label}.tar', files)
  (tars / 'words.txt').write_text(f'{CLASSES[0]}\ttench, Tinca tinca\n')
  results = prepare(f'tars:{tars}', folder)
  assert results['datasets'] == {'imagenet21k': 'prepared'}
  assert results['splits'] == {'train': len(PHOTOS)}
  assert (results['classes'], results['unreadable']) == (12, 1)
  assert (results['duplicates'], results['ambiguous']) == (2, 1)
  return folder / 'data'


def read(folder):
  """Returns image file, label and file name of every example, with TFDS."""
  builder = tfds.builder_from_directory(folder)
  rows = builder.as_dataset(
    split='train',
    decoders={'image': tfds.decode.SkipDecoding()},
    read_config=tfds.ReadConfig(interleave_cycle_length=1),
  ).as_numpy_iterator()
  names = builder.info.features['label'].names
  return [
    (row['image'], names[row['label']], row['file_name'].decode())
    for row in rows
  ]


def test_tars_become_imagenet21k(imagenet21k):
  rows = read(imagenet21k / 'imagenet21k' / '1.0.0')
  labels = {image: label.split()[0] for image, label, _ in rows}
  expected = {content: label for (label, _), content in PHOTOS.items()}
  # The class that comes first gets an image of two classes.
  expected[PHOTOS[CLASSES[2], 3]] = CLASSES[1]
  assert labels == expected
  assert {label for _, label, _ in rows} == {
    f'{CLASSES[0]} tench',
    *CLASSES[1:],
  }
  assert f'{CLASSES[5]}/{CLASSES[5]}_0.JPEG' in {name for _, _, name in rows}


def test_webdataset_gives_the_same_data(tmp_path):
  tars, shards = tmp_path / 'tars', tmp_path / 'shards'
  tars.mkdir()
  shards.mkdir()
  for number, label in enumerate(CLASSES[:3]):
    files = {f'{i}.jpg': PHOTOS[label, i] for i in range(PER_CLASS)}
    write_tar(tars / f'{label}.tar', files)
    labels = {f'{i}.txt': label.encode() for i in range(PER_CLASS)}
    both = dict(sorted((files | labels).items()))
    write_tar(shards / f'{number:03}.tar', both)
  prepare(f'tars:{tars}', tmp_path / 'a', prepare__name='from_tars')
  source = f'webdataset:{shards}/{{000..002}}.tar'
  prepare(source, tmp_path / 'b', prepare__name='from_shards')
  first = read(tmp_path / 'a' / 'data' / 'from_tars' / '1.0.0')
  second = read(tmp_path / 'b' / 'data' / 'from_shards' / '1.0.0')
  # In the same order, so that training on them is the same, too.
  assert [row[:2] for row in first] == [row[:2] for row in second]
  assert len(first) == 15


def test_vit_l16_trains_on_prepared_data(imagenet21k, tmp_path):
  config = runs.load_config('vit_l16')
  config.data.dir = str(imagenet21k)
  # The rest is only smaller.
  config.model.update(runs.SMALL, dtype='float32')
  config.update(batch_size=16, total_epochs=0.5)
  config.data.image_size = 32
  results = runs.run(config, tmp_path)
  assert results['step'] == 2  # 99 % of 60 images are 59.
  assert results['metrics']['val/accuracy'] in (0, 1)  # The other one.
