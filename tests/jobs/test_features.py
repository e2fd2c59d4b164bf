"""Features of a dataset as files, resumed and scored by nearest neighbours."""

import shutil

from etils import epath
import numpy as np
from PIL import Image
import pytest
from sklearn import neighbors

import runs
from vit_jax import checkpoints, main
from vit_jax.evaluation import representations
from vit_jax.page import report
from vit_jax.workdir import feature_files, finished_run
import weights


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """Noise in three colours; a test image is also in the training split."""
  folder = tmp_path_factory.mktemp('photos')
  rng = np.random.default_rng(0)
  for split, count in (('train', 9), ('test', 5)):
    for k, name in enumerate(('blue', 'green', 'red')):
      (folder / split / name).mkdir(parents=True)
      for i in range(count):
        pixels = rng.integers(0, 200, (16, 24, 3), np.uint8)
        pixels[..., k] = np.minimum(pixels[..., k] + 20, 255)
        image = Image.fromarray(pixels)
        image.save(folder / split / name / f'{i}.png')
  shutil.copy(folder / 'train/red/3.png', folder / 'test/red/4.png')
  return folder


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  path = tmp_path_factory.mktemp('weights') / 'tiny.npz'
  checkpoints.export(weights.random_params(weights.tiny()), path)
  return path


def config(photos, checkpoint, **values):
  values = {
    'init_from': str(checkpoint),
    'batch_size': 4,
    'data__image_size': 16,
    'data__image_width': 24,
  } | values
  loaded = runs.load_config('features', f',folder:{photos}')
  return runs.override(loaded, **values)


@pytest.fixture(scope='module')
def finished(photos, checkpoint, tmp_path_factory):
  pytest.importorskip('pyarrow')
  workdir = tmp_path_factory.mktemp('runs') / 'run'
  settings = {'features__parquet': True, 'features__neighbours': 3}
  results = runs.run(config(photos, checkpoint, **settings), workdir)
  return workdir, results


def arrays(workdir, split):
  return dict(np.load(workdir / f'features_{split}.npz'))


def test_files_have_every_example_in_order(finished, photos, checkpoint):
  workdir, results = finished
  assert sorted(path.name for path in workdir.iterdir()) == [
    'config.json',
    'environment.json',
    'features_test.npz',
    'features_test.parquet',
    'features_train.npz',
    'features_train.parquet',
    'results.json',
  ]
  assert results['num_examples'] == {'test': 15, 'train': 27}
  found = arrays(workdir, 'test')
  assert found['class_names'].tolist() == ['blue', 'green', 'red']
  assert found['index'].tolist() == list(range(15))
  assert found['features'].dtype == np.float32
  for example, label in zip(found['example'], found['label'], strict=True):
    name = found['class_names'][label]
    assert example.startswith(f'{photos}/test/{name}/')
  images = np.stack(
    [np.asarray(Image.open(path), np.float32) for path in found['example']]
  )
  module, params = weights.tiny(), checkpoints.load(checkpoint)
  _, expected = module.apply({'params': params}, images / 127.5 - 1)
  np.testing.assert_allclose(
    found['features'], expected['pooled'], rtol=1e-4, atol=1e-5
  )


def test_parquet_has_the_same_content(finished):
  parquet = pytest.importorskip('pyarrow.parquet')
  workdir, _ = finished
  found = arrays(workdir, 'train')
  table = parquet.read_table(workdir / 'features_train.parquet').to_pydict()
  assert table['example'] == found['example'].tolist()
  assert table['index'] == found['index'].tolist()
  assert table['label'] == found['class_names'][found['label']].tolist()
  np.testing.assert_array_equal(
    np.array(table['features'], np.float32), found['features']
  )


def test_accuracy_is_that_of_scikit_learn(finished):
  workdir, results = finished
  train, test = (arrays(workdir, split) for split in ('train', 'test'))
  classifier = neighbors.KNeighborsClassifier(3, metric='cosine')
  classifier.fit(train['features'].astype(float), train['label'])
  expected = classifier.score(test['features'].astype(float), test['label'])
  assert 0 < expected < 1
  accuracy = results['metrics']['test/nearest_neighbour_accuracy']
  assert accuracy == pytest.approx(expected)


def test_the_page_shows_the_most_similar_pairs(finished, photos):
  workdir, results = finished
  pairs = results['pairs']['test']
  assert len(pairs) == 15
  similarity = [pair['similarity'] for pair in pairs]
  assert similarity == sorted(similarity, reverse=True)
  first = pairs[0]
  assert first['example'] == f'{photos}/test/red/4.png'
  assert first['neighbour']['example'] == f'{photos}/train/red/3.png'
  assert first['neighbour']['split'] == 'train'
  assert first['label'] == first['neighbour']['label'] == 'red'
  assert similarity[0] == 1 > similarity[1]
  job_page = report.JOB_PAGES['features']
  _, tiles = job_page.draw(finished_run.read(epath.Path(workdir)))
  assert [len(tile.pictures) for tile in tiles.tiles] == [2] * 12
  assert tiles.tiles[0].caption == (
    f'1.0000: {photos}/test/red/4.png (test, red) and'
    f' {photos}/train/red/3.png (train, red)'
  )


class KilledError(Exception):
  pass


def test_a_killed_run_resumes_and_ends_alike(
  finished, photos, checkpoint, tmp_path, monkeypatch, caplog
):
  workdir, results = finished
  write, written = feature_files.Parts.write, []

  def write_until_killed(parts, number, rows):
    if len(written) == 6:
      raise KilledError
    written.append(number)
    write(parts, number, rows)

  settings = {'features__parquet': True, 'features__neighbours': 3}
  again = config(photos, checkpoint, **settings)
  monkeypatch.setattr(feature_files.Parts, 'write', write_until_killed)
  with pytest.raises(KilledError):
    main.run(again, tmp_path)
  monkeypatch.undo()
  caplog.set_level('INFO', 'vit_jax')
  assert runs.run(again, tmp_path)['metrics'] == results['metrics']
  assert 'resuming train: 5 of 7 batches are left' in caplog.text
  for split in ('train', 'test'):
    for name in (f'features_{split}.npz', f'features_{split}.parquet'):
      expected = (workdir / name).read_bytes()
      assert (tmp_path / name).read_bytes() == expected, name
  assert not list(tmp_path.glob('parts_*'))


def test_without_a_reference_and_corrupt_images(photos, checkpoint, tmp_path):
  copied = tmp_path / 'photos'
  shutil.copytree(photos, copied)
  bad = copied / 'test' / 'green' / '2.png'
  bad.write_bytes(bad.read_bytes()[:60])
  settings = {
    'features__train': False,
    'features__normalise': True,
    'features__layer': 'class_token',
    'features__blocks': '0,-1',
  }
  broken = config(copied, checkpoint, **settings)
  with pytest.raises(ValueError, match=r'cannot read .*green/2\.png'):
    main.run(broken, tmp_path / 'run')
  broken.data.skip_corrupt = True
  results = runs.run(broken, tmp_path / 'run')
  found = arrays(tmp_path / 'run', 'test')
  assert results['num_examples'] == {'test': 14}
  assert np.all(np.diff(found['index']) > 0)
  assert str(bad) not in found['example']
  assert found['features'].shape == (14, 24)
  lengths = np.linalg.norm(found['features'], axis=1)
  np.testing.assert_allclose(lengths, 1, rtol=1e-5)
  classifier = neighbors.KNeighborsClassifier(1, metric='cosine')
  expected = []
  for i in range(14):
    others = np.arange(14) != i
    classifier.fit(found['features'][others], found['label'][others])
    expected.extend(classifier.predict(found['features'][[i]]))
  accuracy = results['metrics']['test/nearest_neighbour_accuracy']
  assert accuracy == pytest.approx(np.mean(expected == found['label']))
  pairs = results['pairs']['test']
  sets = {frozenset((p['index'], p['neighbour']['index'])) for p in pairs}
  assert len(sets) == len(pairs) and all(len(pair) == 2 for pair in sets)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'features__blocks': '1'}, 'features.layer=pooled is computed after all'),
    ({'data__eval': 'train=test'}, 'has a split called train, the name of'),
    ({'data__eval': '', 'features__train': False}, 'data.eval is empty'),
    ({'features__blocks': '2', 'features__layer': 'patch_mean'}, 'block 2'),
  ],
)
def test_invalid_settings(photos, checkpoint, tmp_path, values, message):
  with pytest.raises(ValueError, match=message):
    main.run(config(photos, checkpoint, **values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('layer', representations.LAYERS)
def test_layers(layer):
  module = weights.tiny(pool='gap', class_token=True, registers=2)
  params = weights.random_params(module)
  images = weights.random_images()
  step = representations.make_step(module, (2, 3), layer=layer)
  found = step(params, {'image': images})['features']
  _, features = module.apply({'params': params}, images)
  encoded = features['encoded']
  expected = {
    'class_token': encoded[:, 0],
    'patch_mean': encoded[:, 3:].mean(axis=1),
  } | features
  np.testing.assert_allclose(found, expected[layer], rtol=1e-5, atol=1e-6)


def test_several_labels_per_image(tmp_path):
  parquet = pytest.importorskip('pyarrow.parquet')
  parts = feature_files.Parts.create(tmp_path, 'test', 'key', 3, 2)
  labels = np.array([[0, 0], [0, 0], [1, 1]], bool)
  values = np.arange(6, dtype=np.float32).reshape(3, 2)
  for number, rows in enumerate((slice(0, 2), slice(2, 3))):
    index = np.arange(3, dtype=np.int32)[rows]
    batch = {'features': values[rows], 'label': labels[rows], 'index': index}
    parts.write(number, batch)
  assert feature_files.join(parts, tmp_path, 'test', 'ab', str) == 3
  np.testing.assert_array_equal(arrays(tmp_path, 'test')['label'], labels)
  feature_files.write_parquet(tmp_path, 'test')
  table = parquet.read_table(tmp_path / 'features_test.parquet').to_pydict()
  assert table == {
    'example': ['0', '1', '2'],
    'index': [0, 1, 2],
    'label': [[], [], ['a', 'b']],
    'features': values.tolist(),
  }


def test_arguments_of_the_config(finished):
  workdir, _ = finished
  own = runs.load_config('features', str(workdir))
  assert own.init_from == str(workdir)
  assert own.data.name.startswith('folder:') and own.data.image_width == 24
  other = runs.load_config('features', f'{workdir},cifar10')
  assert (other.init_from, other.model.name) == (str(workdir), '')
  assert (other.data.name, other.data.eval) == ('cifar10', 'test')
  assert other.data.image_size == other.data.image_width == 0
  named = runs.load_config('features', 'ViT-S/16,imagenet2012_real')
  assert (named.init_from, named.model.name) == ('', 'ViT-S/16')
  assert named.data.eval == 'validation' and not named.features.train
