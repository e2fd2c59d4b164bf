"""AugReg and the better baseline, against values from the papers by hand."""

import jax
import numpy as np
import pytest

import official_files
import runs
from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.checkpoints import published
from vit_jax.recipes import augreg


def augmentation(config):
  return config.mixup, *config.data.randaugment


def regularization(config):
  model = config.model
  return config.optim.weight_decay, model.dropout, model.stochastic_depth


@pytest.mark.parametrize(
  ('level', 'expected'),
  [  # Alpha of MixUp, layers and magnitude of RandAugment.
    ('none', (0.0,)),
    ('light1', (0.0, 2, 0)),
    ('light2', (0.2, 2, 10)),
    ('medium1', (0.2, 2, 15)),
    ('medium2', (0.5, 2, 15)),
    ('strong1', (0.5, 2, 20)),
    ('strong2', (0.8, 2, 20)),
  ],
)
def test_levels(level, expected):
  for data in ('imagenet2012', 'imagenet21k', 'table:x.csv,label=y'):
    config = augreg.pretraining(f'ViT-B/16,{data},{level}')
    config_lib.check(config)
    assert config.data.name == data
    assert augmentation(config) == expected
    assert config.mixup_form == 'augreg'
  assert len(augreg.LEVELS) == 7


@pytest.mark.parametrize(
  ('argument', 'augmented', 'regularized'),
  [
    ('ViT-Ti/16,imagenet2012', (0.0, 2, 0), (0.1, 0, 0)),
    ('ViT-S/32,imagenet2012', (0.2, 2, 15), (0.1, 0, 0)),
    ('ViT-S/16,imagenet2012', (0.5, 2, 15), (0.1, 0, 0)),
    ('ViT-B/16,imagenet2012', (0.5, 2, 15), (0.1, 0.1, 0.1)),
    ('ViT-Ti/16,imagenet21k', (0.0,), (0.03, 0, 0)),
    ('ViT-S/16,imagenet21k', (0.2, 2, 10), (0.03, 0, 0)),
    ('ViT-B/32,imagenet21k', (0.2, 2, 10), (0.1, 0, 0)),
    ('ViT-B/16,imagenet21k', (0.2, 2, 15), (0.1, 0, 0)),
    ('R50+ViT-L/32,imagenet21k', (0.2, 2, 15), (0.1, 0.1, 0.1)),
  ],
)
def test_rows(argument, augmented, regularized):
  config = augreg.pretraining(argument)
  assert augmentation(config) == augmented
  assert regularized == regularization(config)


def test_rows_of_imagenet21k_are_the_released_checkpoints():
  in_paper = {'light0': 'light1', 'light1': 'light2'}
  for name, (level, decay, rate, _) in published._AUGREG.items():
    stem, plus, size = name.rpartition('+')
    row = augreg.TABLE[f'{stem}{plus}ViT-{size}', 'imagenet21k']
    assert row == augreg.AugReg(in_paper.get(level, level), decay, rate, rate)


def test_settings_of_all_rows():
  for model, data in augreg.TABLE:
    config = runs.load_config('augreg', f'{model},{data}')
    config_lib.check(config)
    assert (config.model.name, config.data.name) == (model, data)
    assert (config.batch_size, config.total_epochs) == (4096, 300)
    assert config.loss == 'sigmoid'
    assert config.optim.clip_norm == 1
    assert_optimizer_and_images(config)
    on_imagenet = data == 'imagenet2012'
    assert config.model.head_bias == (-6.9 if on_imagenet else -10)
    assert config.model.representation_size == (-1 if on_imagenet else 0)
    assert config.model.pool == 'token'


def assert_optimizer_and_images(config):
  optim, data = config.optim, config.data
  assert (optim.name, optim.b1, optim.b2) == ('adam', 0.9, 0.999)
  assert (optim.lr, optim.schedule) == (1e-3, 'cosine')
  assert (optim.warmup_steps, optim.clip_norm) == (10_000, 1)
  assert optim.mu_dtype == 'bfloat16'
  assert (data.image_size, data.crop, data.flip) == (224, 'inception', True)
  assert data.crop_area == 0.05
  assert (data.eval_crop, data.precrop_size) == ('center', 256)


def test_other_data_gets_the_row_of_imagenet():
  config = runs.load_config('augreg', 'ViT-B/32,folder:/a,b')
  assert config.data.name == 'folder:/a,b'
  assert augmentation(config) == (0.5, 2, 15)
  assert regularization(config) == (0.1, 0.1, 0.1)
  assert (config.loss, config.model.head_bias) == ('softmax', 0)
  assert config.model.representation_size == 0
  assert (config.batch_size, config.total_epochs) == (64, 300)
  assert (config.optim.lr, config.optim.warmup_steps) == (5e-4, -1)
  assert (config.data.train, config.data.eval) == ('train', 'test')
  assert config.data.eval_crop == 'resize'


@pytest.mark.parametrize(
  'argument',
  [
    'ViT-B/16',
    'ViT-B/16,none',
    'ViT-H/14,imagenet2012',
    'ViT-B/8,folder:/photos',
    'ViT-B/16,imagenet21k,heavy1',
    'ViT-B/16,jft300m',
    'ViT-B/16,imagenet2012,light1,30',
  ],
)
def test_unknown_arguments_list_what_exists(argument):
  with pytest.raises(
    ValueError,
    match=r'not MODEL,DATA .* ViT-L/16, R\+.*21k.* light1, .*strong2',
  ):
    runs.load_config('augreg', argument)


def test_better_baseline():
  config = runs.load_config('vit_s16_i1k')
  config_lib.check(config)
  assert config.model.name == 'ViT-S/16'
  assert (config.batch_size, config.total_epochs) == (1024, 90)
  assert augmentation(config) == (0.2, 2, 10)
  assert config.mixup_form == 'augreg'
  assert regularization(config) == (0.1, 0, 0)
  assert (config.loss, config.model.head_bias) == ('softmax', 0)
  assert_optimizer_and_images(config)
  assert (config.model.pool, config.model.positions) == ('gap', 'sincos2d')
  assert config.model.representation_size == -1
  assert config.data.train == 'train[:99%]'
  assert runs.load_config('vit_s16_i1k', '300').total_epochs == 300
  with pytest.raises(ValueError, match="90 or 300, got '30'; .*total_epochs"):
    runs.load_config('vit_s16_i1k', '30')


def test_a_full_size_model_has_the_arrays_of_the_released_file():
  config = augreg.pretraining('ViT-Ti/16,imagenet21k')
  model = build.create_model(config, num_classes=21_843)
  params = jax.eval_shape(
    lambda: build.initial_params(model, (224, 224), np.uint32(0))
  )
  assert official_files.shapes_of(params) == official_files.augreg_shapes(
    21_843,
    patches=196,
    patch_size=16,
    depth=12,
    width=192,
    mlp_dim=768,
    heads=3,
  )
