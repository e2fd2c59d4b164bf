"""RandAugment: its operations against Pillow and values worked out by hand."""

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
import pytest
import tensorflow as tf

from vit_jax.data import decode, preprocess, randaugment

KEY = tf.constant([3, 4], tf.int64)
MAGNITUDES = (0, 10, 15, 20)
GREY = (128, 128, 128)


@pytest.fixture(scope='module')
def photo():
  """A smooth image with noise and a narrow range, (40, 56, 3)."""
  y, x = np.mgrid[:40, :56]
  waves = np.stack([x + 3 * y, 2 * x + y, 200 - 3 * x], -1)
  noise = np.random.default_rng(0).integers(-20, 21, waves.shape)
  return np.clip(waves + noise + 20, 5, 240).astype(np.uint8)


def run(name, image, magnitude, key=KEY):
  return randaugment.OPERATIONS[name](
    tf.constant(image), magnitude, key
  ).numpy()


def affine(image, *matrix):
  return image.transform(image.size, Image.AFFINE, matrix, fillcolor=GREY)


def enhance(kind, m):
  # The factors at m = 0, 10, 15, 20.
  factor = {0: 0.1, 10: 1.9, 15: 2.8, 20: 3.7}[m]
  return lambda image: kind(image).enhance(factor)


def both(function):
  """The results for either sign."""
  return lambda image: [function(image, sign) for sign in (-1, 1)]


def rotate(degrees):
  return both(lambda image, sign: image.rotate(sign * degrees, fillcolor=GREY))


def shear_x(factor):
  return both(lambda image, sign: affine(image, 1, sign * factor, 0, 0, 1, 0))


def shear_y(factor):
  return both(lambda image, sign: affine(image, 1, 0, 0, sign * factor, 1, 0))


def move_x(px):
  return both(lambda image, sign: affine(image, 1, 0, sign * px, 0, 1, 0))


def move_y(px):
  return both(lambda image, sign: affine(image, 1, 0, 0, 0, 1, sign * px))


def posterize(bits):
  return lambda image: ImageOps.posterize(image, bits)


def solarize(threshold):
  return lambda image: ImageOps.solarize(image, threshold)


def black(image):
  return Image.new('RGB', image.size)


def unchanged(image):
  return image


# Functions of an image for m = 0, 10, 15, 20.
BY_PILLOW = {
  'AutoContrast': [ImageOps.autocontrast] * 4,
  'Equalize': [ImageOps.equalize] * 4,
  'Invert': [ImageOps.invert] * 4,
  'Rotate': [unchanged, rotate(30), rotate(45), rotate(60)],
  'Posterize': [black, posterize(4), posterize(6), posterize(8)],
  'Solarize': [solarize(0), solarize(256), solarize(384), solarize(512)],
  'Color': [enhance(ImageEnhance.Color, m) for m in MAGNITUDES],
  'Contrast': [enhance(ImageEnhance.Contrast, m) for m in MAGNITUDES],
  'Brightness': [enhance(ImageEnhance.Brightness, m) for m in MAGNITUDES],
  'Sharpness': [enhance(ImageEnhance.Sharpness, m) for m in MAGNITUDES],
  'ShearX': [unchanged, shear_x(0.3), shear_x(0.45), shear_x(0.6)],
  'ShearY': [unchanged, shear_y(0.3), shear_y(0.45), shear_y(0.6)],
  'TranslateX': [unchanged, move_x(100), move_x(150), move_x(200)],
  'TranslateY': [unchanged, move_y(100), move_y(150), move_y(200)],
}


@pytest.mark.parametrize('name', BY_PILLOW)
def test_operation_is_that_of_pillow(name, photo):
  for magnitude, function in zip(MAGNITUDES, BY_PILLOW[name], strict=True):
    expected = function(Image.fromarray(photo))
    if not isinstance(expected, list):
      expected = [expected]
    image = run(name, photo, magnitude).astype(int)
    differences = [np.abs(image - np.asarray(x)).max() for x in expected]
    assert min(differences) <= 1, magnitude


def test_range_is_checked():
  def transform(setting, **options):
    return preprocess.train_transform(
      image_size=(8, 8),
      crop='resize',
      flip=False,
      randaugment=setting,
      decoder=decode.Decoder(**options),
    )

  for setting in [(2,), (0, 10), (17, 10), (2, -1), (2, 31), (2, 10, 1)]:
    with pytest.raises(ValueError, match='LAYERS,MAGNITUDE'):
      transform(setting)
  for options in [{'channels': 1}, {'channels': 4}, {'bits': 16}]:
    with pytest.raises(ValueError, match=r'data\.channels=.*data\.bits='):
      transform((2, 10), **options)
    transform((), **options)
