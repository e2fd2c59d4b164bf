"""Inspection end to end: on runs, random weights, photos and ResNets."""

import json

import jax
import numpy as np
from PIL import Image
import pytest

import runs
from vit_jax import checkpoints, main, models
from vit_jax.data import digits, pipeline, preprocess
from vit_jax.inspection import attention_maps
import weights

MAPS = {'attention_maps_1.png', 'attention_maps_2.png'}
FIGURES = {
  'filters.png',
  'position_similarity.png',
  'attention_distance.png',
  'rollout.png',
}


@pytest.fixture(scope='module')
def run_of_ours(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('runs') / 'digits'
  runs.run(
    runs.override(
      runs.shrink(runs.load_config('digits')),
      data__image_size=8,
      model__depth=2,
    ),
    workdir,
  )
  return workdir


def inspect(workdir, *argument, **values):
  config = runs.override(
    runs.load_config('inspect_model', *argument),
    **{'inspect__num_images': 20, 'inspect__pictures': 2, 'inspect__pages': 0}
    | values,
  )
  results = runs.run(config, workdir)
  return results, dict(np.load(workdir / 'inspection.npz'))


def pictures(workdir):
  found = {path.name for path in workdir.glob('*.png')}
  for name in found:
    with Image.open(workdir / name) as image:
      assert min(image.size) > 100
  return found


def test_a_run_is_inspected_on_its_own_data(run_of_ours, tmp_path, capsys):
  results, arrays = inspect(tmp_path, str(run_of_ours))
  assert results['init_from'] == str(run_of_ours / 'final.npz')
  assert pictures(tmp_path) == FIGURES | MAPS == set(results['figures'])
  # 4x4 patches of 2x2 px, two layers of two heads.
  shapes = {name: array.shape for name, array in arrays.items()}
  assert shapes == {
    'filter_components': (12, 2, 2, 3),
    'filter_variance': (12,),
    'position_similarity': (4, 4, 4, 4),
    'attention_distance': (2, 2),
    'rollout': (2, 4, 4),
    'attention_maps': (2, 2, 2, 4, 4),
    'images': (2, 8, 8, 3),
    'captions': (2,),
  }
  metrics = results['metrics']
  assert metrics['filters/components'] == 12
  assert metrics['filters/variance_of_first_28'] == pytest.approx(1)
  first = arrays['attention_distance'][0]
  expected = {
    '': first.mean(),
    '_min': first.min(),
    '_max': first.max(),
    '_std': abs(first[0] - first[1]) / 2,
  }
  for kind, value in expected.items():
    name = f'attention_distance/layer_1{kind}'
    assert metrics[name] == pytest.approx(value, rel=1e-4)
  printed = capsys.readouterr().out
  assert f'{metrics["positions/same_row"]:.4g}' in printed
  last = arrays['attention_distance'][1]
  assert printed.splitlines()[-1].split()[:3] == (
    ['layer', '2', f'{last.mean():.2f}']
  )


def test_the_numbers_are_those_of_the_images_that_were_asked_for(
  run_of_ours, tmp_path
):
  found = [
    inspect(
      tmp_path / str(size),
      str(run_of_ours / 'final.npz'),
      batch_size=size,
      data__eval='val=train[:30],test=test[:20]',
      inspect__pictures=3,
    )
    for size in (7, 20)
  ]
  (small, small_arrays), (large, large_arrays) = found
  for name, value in small['metrics'].items():
    assert value == pytest.approx(large['metrics'][name], rel=1e-4), name
  for name, array in small_arrays.items():
    if name != 'captions':
      np.testing.assert_allclose(
        array, large_arrays[name], rtol=1e-3, atol=1e-5, err_msg=name
      )
  params = checkpoints.load(run_of_ours / 'final.npz')
  model = models.create(
    'ViT-Ti/2', num_classes=10, depth=2, width=16, mlp_dim=16, heads=2
  )
  source = digits.open_digits('test[:20]')
  (batch,) = pipeline.eval_batches(
    source,
    preprocess.eval_transform(image_size=(8, 8), crop='resize'),
    batch_size=20,
  )
  summary = jax.device_get(
    attention_maps.summarize(model, params, batch['image'])
  )
  np.testing.assert_allclose(
    large_arrays['attention_distance'], summary['distances'].mean(0), rtol=1e-4
  )
  # The first, the middle and the last of 20.
  rows = [0, 10, 19]
  np.testing.assert_allclose(
    large_arrays['attention_maps'], summary['maps'][rows], rtol=1e-3, atol=1e-6
  )
  assert large_arrays['captions'].tolist() == [
    source.class_names[batch['label'][row]] for row in rows
  ]
  relative = (
    summary['rollouts'] / summary['rollouts'].mean((1, 2))[:, None, None]
  )
  assert large['metrics']['rollout/centre'] == pytest.approx(
    relative[:, 1:3, 1:3].mean(), rel=1e-4
  )
  assert large['metrics']['rollout/peak'] == pytest.approx(
    relative.max((1, 2)).mean(), rel=1e-4
  )


def test_photos_alone_on_a_model_without_class_token(tmp_path, caplog):
  folder = tmp_path / 'photos'
  folder.mkdir()
  for k in range(4):
    Image.new('RGB', (90, 60), (60 * k, 0, 0)).save(folder / f'{k}.png')
  (folder / '0.jpg').write_text('words')
  results, arrays = inspect(
    tmp_path / 'run',
    'ViT-Ti/16,',
    model__pool='gap',
    model__depth=1,
    model__width=12,
    model__mlp_dim=8,
    data__image_size=64,
    data__image_width=96,
    inspect__paths=str(folder),
    inspect__pictures=3,
    inspect__pages=2,
    inspect__renormalise=True,
  )
  assert arrays['position_similarity'].shape == (4, 6, 4, 6)
  assert arrays['rollout'].shape == (3, 4, 6)
  np.testing.assert_allclose(arrays['rollout'].sum((1, 2)), 1, rtol=1e-4)
  assert arrays['captions'].tolist() == ['0.png', '1.png', '2.png']
  assert results['pages'] == [
    {'file': 'attention_1.html', 'image': '0.png'},
    {'file': 'attention_2.html', 'image': '1.png'},
  ]
  pages = {path.name for path in (tmp_path / 'run').glob('*.html')}
  assert pages == {'attention_1.html', 'attention_2.html'}
  assert '0.jpg cannot be read' in caplog.text
  assert 'the first 3 of 5 photos are drawn' in caplog.text
  assert 'the weights are random' in caplog.text
  # Such a model attends to all patches nearly alike.
  metrics = results['metrics']
  assert metrics['attention_distance/layer_1'] == pytest.approx(
    metrics['attention_distance/uniform'], rel=0.1
  )


def test_photos_are_drawn_beside_a_split(run_of_ours, tmp_path):
  Image.new('L', (9, 9)).save(tmp_path / 'mine.png')
  workdir = tmp_path / 'run'
  results, arrays = inspect(
    workdir, str(run_of_ours), inspect__paths=str(tmp_path / 'mine.png')
  )
  assert arrays['captions'].tolist() == ['mine.png']
  without, _ = inspect(tmp_path / 'without', str(run_of_ours))
  assert results['metrics'] == without['metrics']


def test_a_resnet_has_filters_alone(tmp_path, caplog):
  size = {'stage_depths': (1, 1), 'width_factor': 0.5}
  params = weights.random_params(
    models.create('R50x1', num_classes=0, **size), (32, 32)
  )
  checkpoints.export(params, tmp_path / 'resnet.npz')
  results, arrays = inspect(
    tmp_path / 'run',
    ',digits',
    init_from=str(tmp_path / 'resnet.npz'),
    data__image_size=32,
    inspect__pages=1,
  )
  assert results['pages'] == []
  assert pictures(tmp_path / 'run') == {'filters.png'}
  assert set(arrays) == {'filter_components', 'filter_variance'}
  assert all(name.startswith('filters/') for name in results['metrics'])
  assert 'a ResNet has no attention between tokens' in caplog.text


def test_relative_positions_have_no_similarity(tmp_path, caplog):
  model = weights.tiny(positions='relative', depth=1)
  params = weights.random_params(model)
  checkpoints.export(params, tmp_path / 'relative.npz')
  results, _ = inspect(
    tmp_path / 'run',
    ',digits',
    init_from=str(tmp_path / 'relative.npz'),
    data__image_size=16,
    data__image_width=24,
  )
  assert set(results['figures']) == (FIGURES | MAPS) - {
    'position_similarity.png'
  }
  assert 'skipping the similarity of positions: the model adds' in caplog.text


def test_an_axial_vit_has_filters_and_positions(tmp_path, caplog):
  params = weights.random_params(weights.tiny('Axial-ViT-Ti/16'))
  checkpoints.export(params, tmp_path / 'axial.npz')
  results, arrays = inspect(
    tmp_path / 'run',
    ',digits',
    init_from=str(tmp_path / 'axial.npz'),
    data__image_size=16,
    data__image_width=24,
  )
  assert set(results['figures']) == {'filters.png', 'position_similarity.png'}
  assert arrays['position_similarity'].shape == (2, 3, 2, 3)
  assert 'an Axial-ViT only has attention along' in caplog.text


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'inspect__num_images': 0}, 'no images to inspect'),
    ({'data__name': ''}, 'no images to inspect'),
    ({'data__eval': ''}, 'data.eval is empty'),
    ({'inspect__paths': '/nowhere.png'}, "'/nowhere.png' does not exist"),
    ({'inspect__paths': __file__}, 'no file can be read .* first of 1 is'),
    ({'data__image_size': 9}, '9x9 pixels cannot be cut into patches'),
    ({'init_from': ''}, 'no weights are given'),
  ],
)
def test_what_does_not_fit_is_refused(run_of_ours, tmp_path, values, message):
  config = runs.override(
    runs.load_config('inspect_model', str(run_of_ours)), **values
  )
  with pytest.raises(ValueError, match=message):
    main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_of_run(run_of_ours, tmp_path):
  config = runs.load_config('inspect_model', str(run_of_ours / 'final.npz'))
  assert config.data.name == 'digits'
  assert config.data.image_size == 8
  saved = json.loads((run_of_ours / 'config.json').read_text())
  assert config.data.eval == saved['data.eval']
  with pytest.raises(ValueError, match='neither MODEL,DATASET nor a run'):
    runs.load_config('inspect_model', str(tmp_path))
