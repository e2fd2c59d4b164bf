"""Models rebuilt from a checkpoint, with and without their name."""

import json

import pytest

import runs
from vit_jax import checkpoints, models
from vit_jax.build import pretrained
import weights

RESNET = {'stage_depths': (1, 1), 'width_factor': 0.5}
VIT = {**weights.SIZES, 'patch_size': 8}


def load(path, name, **values):
  config = runs.load_config('evaluate', f'{name},digits')
  values = {'data__image_size': 0} | values
  runs.override(config, init_from=str(path), **values)
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


def evaluation(path, **values):
  """Returns the keys of evaluation that are left to the checkpoint."""
  config = load(path, '', **values).config
  data = config.data
  crop = data.eval_crop, data.eval_interpolation, data.precrop_size
  return (data.image_size, *crop, data.trim_px, config.loss)


def save_run(folder, **keys):
  model = models.create('ViT-Ti/8', num_classes=10, **VIT)
  params = weights.random_params(model, (32, 32))
  checkpoints.export(params, folder / 'final.npz')
  keys = {k.replace('__', '.'): v for k, v in keys.items()}
  (folder / 'config.json').write_text(json.dumps(keys))
  return folder / 'final.npz'


def test_evaluation_follows_the_run(tmp_path):
  path = save_run(
    tmp_path,
    loss='sigmoid',
    data__image_size=32,
    data__eval_crop='center',
    data__precrop_size=40,
    data__trim_px=2,
  )
  assert evaluation(path) == (32, 'center', 'bilinear', 40, 2, 'sigmoid')
  # At twice the size, from images of twice the size.
  larger = evaluation(path, data__image_size=64)
  assert larger == (64, 'center', 'bilinear', 80, 2, 'sigmoid')
  given = evaluation(path, data__eval_crop='resize', loss='softmax')
  assert given == (32, 'resize', 'bilinear', 0, 0, 'softmax')


def test_evaluation_without_settings(tmp_path):
  path = save_run(tmp_path)
  assert evaluation(path) == (32, 'resize', 'bilinear', 0, 0, 'softmax')


def test_evaluation_follows_preprocessor_config(tmp_path):
  pytest.importorskip('safetensors')
  model = models.create('ViT-Ti/8', num_classes=10, **VIT)
  folder = tmp_path / 'model'
  checkpoints.export(
    weights.random_params(model, (32, 32)),
    folder,
    format='huggingface',
    gelu='erf',
  )
  assert evaluation(folder) == (32, 'resize', 'bilinear', 0, 0, 'softmax')
  preprocessor = {
    'size': {'shortest_edge': 28},
    'resample': 3,
    'do_center_crop': True,
    'crop_size': 24,
    'image_mean': 0.5,
    'image_std': 0.5,
  }
  path = folder / 'preprocessor_config.json'
  path.write_text(json.dumps(preprocessor))
  found = evaluation(folder)
  assert found == (24, 'center', 'bicubic_antialias', 28, 0, 'softmax')
  preprocessor |= {'size': {'height': 28, 'width': 32}}
  path.write_text(json.dumps(preprocessor))
  with pytest.raises(ValueError, match='28x32 px, which is not a square'):
    evaluation(folder)


@pytest.mark.parametrize(
  ('name', 'options', 'libraries'),
  [
    ('model', {}, ['huggingface uses bicubic']),
    ('model', {'registers': 1}, ['huggingface uses bicubic_antialias']),
    ('model.safetensors', {}, ['timm uses bicubic_antialias']),
    ('model.npz', {}, []),
  ],
)
def test_log_names_the_resizing_of_the_library(
  name, options, libraries, tmp_path, caplog
):
  pytest.importorskip('safetensors')
  options = VIT | {'mlp_dim': 24} | options
  model = models.create('ViT-Ti/8', num_classes=10, **options)
  params = weights.random_params(model, (32, 32))
  format = 'huggingface' if name == 'model' else None
  checkpoints.export(params, tmp_path / name, format=format)
  with caplog.at_level('INFO', 'vit_jax.build.weights'):
    load(tmp_path / name, '', data__image_size=32)
    assert not caplog.messages
    load(tmp_path / name, '', data__image_size=48)
  start = 'positions were resized with init_positions=bilinear; '
  assert caplog.messages == [start + library for library in libraries]


def test_given_form_of_gelu_takes_precedence(tmp_path):
  path = save_run(tmp_path, model__gelu='tanh')
  assert load(path, '').model.gelu == 'tanh'
  assert load(path, '', model__gelu='erf').model.gelu == 'erf'
