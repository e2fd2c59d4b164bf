"""Models rebuilt from a checkpoint, with and without their name."""

import pytest

import runs
from vit_jax import checkpoints, models
from vit_jax.build import pretrained
import weights

RESNET = {'stage_depths': (1, 1), 'width_factor': 0.5}
VIT = {**weights.SIZES, 'patch_size': 8}


def load(path, name, **values):
  config = runs.load_config('evaluate', f'{name},digits')
  runs.override(config, init_from=str(path), data__image_size=0, **values)
  return pretrained.load_classifier(config)


@pytest.mark.parametrize(
  'name, options',
  [
    ('ViT-Ti/8', VIT),
    ('ViT-Ti/8', {**VIT, 'positions': '2d', 'positions_at': 'every_layer'}),
    ('ViT-Ti/8', {**VIT, 'positions_at': 'every_layer_shared'}),
    ('ViT-Ti/8', {**VIT, 'positions': 'relative'}),
    ('Axial-ViT-Ti/8', {**VIT, 'positions': '2d'}),
  ],
)
def test_vision_transformers(name, options, tmp_path):
  model = models.create(name, num_classes=10, **options)
  params = weights.random_params(model, (32, 32))
  checkpoints.export(params, tmp_path / 'final.npz')
  sizes = {f'model__{key}': value for key, value in weights.SIZES.items()}
  for named, values in ('', {}), (name, sizes):
    loaded = load(tmp_path / 'final.npz', named, **values)
    assert loaded.model == model
    assert loaded.config.data.image_size == 32
    weights.assert_same(loaded.params, params)


@pytest.mark.parametrize('name', ['R50x1', 'AxialR50x1'])
def test_resnets(name, tmp_path):
  model = models.create(name, num_classes=10, **RESNET)
  params = weights.random_params(model, (32, 32))
  checkpoints.export(params, tmp_path / 'final.npz')
  with pytest.raises(ValueError, match='does not specify .* set data.image'):
    load(tmp_path / 'final.npz', '')
  config = runs.load_config('evaluate', ',digits')
  runs.override(
    config, init_from=str(tmp_path / 'final.npz'), data__image_size=32
  )
  loaded = pretrained.load_classifier(config)
  assert loaded.model == model
  weights.assert_same(loaded.params, params)


def test_without_positions_the_image_size_is_required(tmp_path):
  model = models.create('ViT-Ti/8', num_classes=10, positions='none', **VIT)
  checkpoints.export(
    weights.random_params(model, (32, 32)), tmp_path / 'final.npz'
  )
  with pytest.raises(ValueError, match='does not specify .* set data.image'):
    load(tmp_path / 'final.npz', '')
