"""`vit_jax.load`: what users hand it, and what it computes from that."""

import functools
import json
import os

import jax
import numpy as np
from PIL import Image
import pytest

import vit_jax
from vit_jax import checkpoints, models
from vit_jax.inspection import attention_maps
import weights

NAMES = ('sea', 'moss', 'rose', 'sand')
SIZE = (16, 24)


def pixels(*, seed=0, size=SIZE, channels=3):
  rng = np.random.default_rng(seed)
  return rng.integers(256, size=(*size, channels), dtype='u1')


def as_floats(image):
  return image.astype('f4') / 127.5 - 1


@pytest.fixture(scope='module')
def module():
  return weights.tiny(gelu='erf', registers=1, norm_eps=1e-6)


@pytest.fixture(scope='module')
def params(module):
  return weights.random_params(module)


@pytest.fixture(scope='module')
def folder(module, params, tmp_path_factory):
  """A run with this model, without the rest of its files."""
  folder = tmp_path_factory.mktemp('run')
  checkpoints.export(params, folder / 'final.npz')
  keys = {
    'model.gelu': module.gelu,
    'data.image_size': SIZE[0],
    'data.image_width': SIZE[1],
  }
  (folder / 'config.json').write_text(json.dumps(keys))
  results = {'class_names': NAMES}
  (folder / 'results.json').write_text(json.dumps(results))
  return folder


@pytest.fixture(scope='module')
def loaded(folder):
  return vit_jax.load(folder, batch_size=4)


def test_all_kinds_of_images_have_the_same_predictions(
  loaded, module, params, tmp_path
):
  image = pixels()
  path = tmp_path / 'photo.png'
  Image.fromarray(image).save(path)
  (expected,) = loaded.predict(image, top=2)
  probabilities = jax.nn.softmax(
    weights.logits_of(module, params, as_floats(image)[None])
  )
  assert expected.name == NAMES[np.argmax(probabilities)]
  assert expected.probability == pytest.approx(
    float(np.max(probabilities)), rel=1e-5
  )
  assert len(expected.top) == 2
  assert expected.labels is None
  several = [
    str(path),
    path,
    Image.open(path),
    image.astype(np.uint16) * 257,
    np.dstack([image, np.full(SIZE, 7, np.uint8)]),
    as_floats(image),
  ]
  for one in several:
    assert loaded.predict(one, top=2) == [expected]
  found = loaded.predict(several, top=2)
  assert len(found) == len(several)
  for one in found:
    assert one.name == expected.name
    assert one.probability == pytest.approx(expected.probability, rel=1e-5)
  # A size of 1 for single images, and one of 4 for the rest.
  assert loaded._predict_step._cache_size() == 2


def test_images_of_other_sizes_are_preprocessed(loaded, tmp_path):
  image = pixels(size=(33, 50))
  found = loaded.preprocess([image, Image.fromarray(image)])
  assert found.shape == (2, *SIZE, 3)
  np.testing.assert_array_equal(found[0], found[1])
  gray = loaded.preprocess(image[..., 0])
  np.testing.assert_array_equal(gray[0], np.repeat(found[0][..., :1], 3, -1))
  batch = np.stack([as_floats(pixels(seed=i)) for i in range(5)])
  np.testing.assert_array_equal(loaded.preprocess(batch), batch)
  turned = Image.fromarray(image).transpose(Image.Transpose.ROTATE_90)
  exif = Image.Exif()
  exif[0x0112] = 6
  turned.save(tmp_path / 'turned.png', exif=exif)
  opened = Image.open(tmp_path / 'turned.png')
  np.testing.assert_array_equal(loaded.preprocess(opened), found[:1])
  assert opened.size == (33, 50)


def test_features_are_those_of_the_model(loaded, module, params):
  images = np.stack([pixels(seed=i) for i in range(6)])
  layers = ('pooled', 'class_token', 'patch_tokens', 0, -1)
  found = loaded.features(images, layers)
  apply = jax.jit(functools.partial(module.apply, blocks=(0, -1)))
  _, expected = apply({'params': params}, as_floats(images))
  encoded = np.asarray(expected['encoded'])
  expected = {
    'pooled': expected['pooled'],
    'class_token': encoded[:, 0],
    'patch_tokens': encoded[:, 2:].reshape(6, 2, 3, -1),
    'blocks': expected['blocks'],
  }
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    found,
    expected,
  )
  (pooled,) = loaded.features(images[0])['pooled']
  np.testing.assert_allclose(pooled, found['pooled'][0], rtol=1e-4, atol=1e-5)


def test_attention_is_that_of_the_inspection(loaded, module, params):
  images = np.stack([as_floats(pixels(seed=i)) for i in range(2)])
  expected = attention_maps.summarize(module, params, images)
  found = loaded.attention(images)
  assert found.keys() == expected.keys()
  for name, values in expected.items():
    np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
  ('images', 'message'),
  [
    ('no.jpg', "'no.jpg' cannot be read .* No such file"),
    (os.curdir, 'cannot be read .* directory'),
    ([pixels(), 'no.jpg'], "image 2 of 2: 'no.jpg' cannot be read"),
    (
      pixels().astype('f4'),
      r'floats of shape \(16, 24, 3\) from 0 to 255, .* / 127.5 - 1',
    ),
    (np.full((*SIZE, 3), np.nan), 'from nan to nan'),
    (
      np.moveaxis(as_floats(pixels()), -1, 0)[None],
      r'floats of shape \(3, 16, 24\), .* \(16, 24, 3\); move the channels',
    ),
    (np.zeros((8, 8, 3)), r'of shape \(8, 8, 3\), .* other sizes as uint8'),
    (np.moveaxis(pixels(), -1, 0), r'uint8 .* \(3, 16, 24\) .* Move the chan'),
    (pixels().astype(int), 'an array of int64 .* expected uint8'),
    (pixels(channels=5), r'\(16, 24, 5\) is not .* 1 to 4 channels'),
    ([], 'there are no images'),
    (b'\xff\xd8', 'type bytes is not an image'),
    ([[0, 1]], 'type list is not an image'),
  ],
)
def test_other_images_are_an_error(loaded, images, message):
  with pytest.raises(ValueError, match=message):
    loaded.features(images)


def test_other_layers_and_checkpoints_are_an_error(loaded, folder, tmp_path):
  with pytest.raises(ValueError, match="'mean'.* are pooled, class_token, pat"):
    loaded.features(pixels(), ('pooled', 'mean'))
  with pytest.raises(ValueError, match='no block 2'):
    loaded.features(pixels(), 2)
  with pytest.raises(ValueError, match='no such file or folder'):
    vit_jax.load(tmp_path / 'no.npz')
  with pytest.raises(ValueError, match='the checkpoint is empty'):
    vit_jax.load('')
  with pytest.raises(ValueError, match='data.image_width=-1 is outside'):
    vit_jax.load(folder / 'final.npz', keys={'data.image_width': -1})


def test_settings_that_a_file_does_not_record(folder, tmp_path):
  params = weights.random_params(weights.tiny(), (16, 16))
  checkpoints.export(params, tmp_path / 'bare.npz')
  bare = vit_jax.load(tmp_path / 'bare.npz')
  assert bare.image_size == (16, 16)
  assert bare.class_names == ('0', '1', '2', '3')
  larger = vit_jax.load(folder / 'final.npz', keys={'data.image_size': 32})
  assert larger.image_size == (32, 32)
  assert larger.grid == (4, 4)


def test_a_resnet_without_a_head_has_features(tmp_path):
  sizes = {'stage_depths': (1,), 'width_factor': 0.5}
  module = models.create('R50x1', num_classes=0, **sizes)
  path = tmp_path / 'weights.npz'
  checkpoints.export(weights.random_params(module), path)
  with pytest.raises(ValueError, match='set data.image_size'):
    vit_jax.load(path)
  loaded = vit_jax.load(path, keys={'data.image_size': 16})
  found = loaded.features(pixels(), ['patch_tokens', 0])
  assert found['patch_tokens'].shape == (1, 4, 4, 128)
  assert found['blocks'][0].shape == (1, 16, 128)
  with pytest.raises(ValueError, match='are pooled, patch_tokens, or ind'):
    loaded.features(pixels(), 'class_token')
  with pytest.raises(ValueError, match=f'{path} has no head .* its features'):
    loaded.predict(pixels())
  with pytest.raises(ValueError, match='a ResNet has no attention'):
    loaded.attention(pixels())
