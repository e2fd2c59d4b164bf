"""Preparing data: with TFDS, already or now or not at all; own images."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from originals import image_file
import runs
from vit_jax import main
from vit_jax.data import registry


class PaintedSquares(tfds.core.GeneratorBasedBuilder):
  """A dataset without downloads; TFDS finds it by its name."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    features = {
      'image': tfds.features.Image(shape=(4, 4, 3)),
      'label': tfds.features.ClassLabel(num_classes=2),
    }
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for i in range(6):
      yield i, {'image': np.full((4, 4, 3), i, np.uint8), 'label': i % 2}


def test_prepares_missing_data(tmp_path):
  config = runs.load_config('prepare', 'tfds:painted_squares')
  config.data.dir = str(tmp_path / 'data')
  results = runs.run(config, tmp_path / 'run')
  assert results['datasets'] == {'painted_squares': 'prepared'}
  source = registry.open_source(
    'tfds:painted_squares', 'train', data_dir=config.data.dir
  )
  assert source.num_examples == 6
  results = runs.run(config, tmp_path / 'run')
  assert results['datasets'] == {'painted_squares': 'already prepared'}


def test_failures_are_reported_finally(tmp_path):
  config = runs.load_config(
    'prepare', 'vtab:resisc45,vtab:diabetic_retinopathy,tfds:painted_squares'
  )
  config.data.dir = str(tmp_path / 'data')
  with pytest.raises(ValueError, match='2 of 3 datasets') as error:
    main.run(config, tmp_path / 'run')
  assert 'extract it to the manual_dir' in str(error.value)
  assert 'diabetic_retinopathy' in str(error.value)
  results = (tmp_path / 'run' / 'results.json').read_text()
  assert results.count('failed') == 2
  assert results.count('prepared') == 1


def test_vtab_has_sixteen_datasets():
  builders = registry.tfds_builders('vtab')
  assert len(builders) == 16
  assert registry.tfds_builders('vtab:clevr_distance') == ['clevr:3.0.0']
  assert registry.tfds_builders('cifar10') == ['cifar10:3.0.2']


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    ('digits', "'digits' is not a dataset that TFDS can prepare"),
    ('vtab:cats', "'cats' is not a VTAB task"),
    ('tfds:nowhere', "does not know 'nowhere'"),
    (' ', 'is empty'),
  ],
)
def test_unknown_names_are_refused(names, message, tmp_path):
  config = runs.load_config('prepare', names)
  with pytest.raises(ValueError, match=message):
    main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.fixture
def photos(tmp_path):
  folder = tmp_path / 'photos, of mine'
  for seed, label in enumerate(['a', 'b', 'b']):
    (folder / label).mkdir(parents=True, exist_ok=True)
    (folder / label / f'{seed}.png').write_bytes(image_file(seed))
  return folder


def preparation(photos, tmp_path, **keys):
  config = runs.load_config('prepare', f'folder:{photos}')
  keys = {'prepare__name': 'mine', **keys}
  config.data.dir = str(tmp_path / 'data')
  return runs.override(config, prepare__workers=1, **keys)


def test_own_images(photos, tmp_path, caplog):
  (photos / 'b' / 'text.png').write_text('text')
  config = preparation(photos, tmp_path)
  with caplog.at_level('INFO', 'vit_jax'):
    results = runs.run(config, tmp_path / 'run')
  assert results['datasets'] == {'mine': 'prepared'}
  assert results['splits'] == {'train': 3}
  assert results['unreadable'] == 1
  assert 'written images: 3 of 3' in caplog.text
  source = registry.open_source('tfds:mine', 'train', data_dir=config.data.dir)
  assert source.num_examples == 3
  assert source.class_names == ('a', 'b')
  # A finished dataset needs no original.
  (photos / 'a').rename(tmp_path / 'elsewhere')
  results = runs.run(config, tmp_path / 'run')
  assert results['datasets'] == {'mine': 'already prepared'}
  assert results['splits'] == {'train': 3}
  config.seed = 1
  with pytest.raises(ValueError, match='mine/1.0.0 was prepared with other'):
    main.run(config, tmp_path / 'run')


def test_names_of_own_classes(photos, tmp_path):
  names = tmp_path / 'names.txt'
  names.write_text('b\na\nc\n')
  config = preparation(
    photos, tmp_path, prepare__class_names=str(names), seed=3
  )
  assert runs.run(config, tmp_path / 'run')['classes'] == 3
  source = registry.open_source('tfds:mine', 'train', data_dir=config.data.dir)
  assert source.class_names == ('b', 'a', 'c')


def test_mistakes_in_own_images(photos, tmp_path):
  bad = {
    'prepare.name=.. is not the name': {'prepare__name': ''},
    'is a dataset of TFDS': {'prepare__name': 'cifar10'},
    'prepare.class_names: there is no file': {'prepare__class_names': 'none'},
  }
  for message, keys in bad.items():
    with pytest.raises(ValueError, match=message):
      main.run(preparation(photos, tmp_path, **keys), tmp_path / 'run')
  with pytest.raises(ValueError, match="folder .*nowhere' does not exist"):
    main.run(preparation('nowhere', tmp_path), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
  assert not (tmp_path / 'data').exists()
