"""RandAugment: its operations against Pillow and values worked out by hand."""

import functools
import itertools

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
import pytest
import tensorflow as tf

from vit_jax.data import decode, pipeline, preprocess, randaugment, registry

KEY = tf.constant([3, 4], tf.int64)
MAGNITUDES = (0, 10, 15, 20)
GRAY = (128, 128, 128)


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
  return image.transform(image.size, Image.AFFINE, matrix, fillcolor=GRAY)


def enhance(kind, m):
  # The factors at m = 0, 10, 15, 20.
  factor = {0: 0.1, 10: 1.9, 15: 2.8, 20: 3.7}[m]
  return lambda image: kind(image).enhance(factor)


def both(function):
  """The results for either sign."""
  return lambda image: [function(image, sign) for sign in (-1, 1)]


def rotate(degrees):
  return both(lambda image, sign: image.rotate(sign * degrees, fillcolor=GRAY))


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
  # Of 100, 150 and 200 px at 224 px, the share of 56 px and of 40 px.
  'TranslateX': [unchanged, move_x(25), move_x(37), move_x(50)],
  'TranslateY': [unchanged, move_y(17), move_y(26), move_y(35)],
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


def test_values_by_hand():
  image = np.uint8([0, 1, 127, 128, 254, 255])[:, None, None].repeat(3, 2)

  def values(name, magnitude):
    return run(name, image, magnitude)[:, 0, 0].tolist()

  for magnitude, expected in {
    0: [0, 1, 127, 128, 254, 255],
    10: [110, 111, 237, 128, 254, 255],
    15: [165, 166, 255, 128, 254, 255],
    20: [220, 221, 255, 128, 254, 255],
    30: [255, 255, 255, 128, 254, 255],
  }.items():
    assert values('SolarizeAdd', magnitude) == expected
  assert values('Posterize', 30) == image[:, 0, 0].tolist()
  assert values('Solarize', 5) == [0, 1, 127, 127, 1, 0]


def mapped(function, image, count):
  """Returns the results of a function of an image and a key for many keys."""
  image = tf.constant(image)

  @tf.autograph.experimental.do_not_convert
  def apply(number):
    return function(image, tf.stack([number, 7]))

  results = tf.data.Dataset.range(count).map(apply).batch(count)
  return next(results.as_numpy_iterator())


def at_magnitude(name, magnitude):
  operation = randaugment.OPERATIONS[name]
  return lambda image, key: operation(image, magnitude, key)


def assert_frequencies(counts, frequency, total):
  deviation = np.sqrt(total * frequency * (1 - frequency))
  np.testing.assert_array_less(abs(counts - total * frequency), 3 * deviation)


def test_operations_are_drawn_uniformly(monkeypatch):
  def write(number, image, magnitude, key):
    # The number of the operation, in the first row that is not written.
    row = tf.one_hot(tf.argmin(image[:, 0, 0]), 2, dtype=tf.uint8)
    return image + row[:, None, None] * tf.constant(number + 1, tf.uint8)

  names = list(randaugment.OPERATIONS)
  assert len(names) == 16
  writing = {n: functools.partial(write, i) for i, n in enumerate(names)}
  monkeypatch.setattr(randaugment, 'OPERATIONS', writing)
  draw = functools.partial(randaugment.randaugment, layers=2, magnitude=10)
  drawn = mapped(draw, np.zeros((2, 1, 3), np.uint8), 5000)[:, :, 0, 0] - 1
  assert_frequencies(np.bincount(drawn.ravel(), minlength=16), 1 / 16, 10_000)
  # The layers are independent: operations repeat.
  assert_frequencies((drawn[:, 0] == drawn[:, 1]).sum(), 1 / 16, 5000)


def test_signs_are_drawn_uniformly(photo):
  for name in ('Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY'):
    images = mapped(at_magnitude(name, 2), photo, 2000)
    signs = [(images == image).all((1, 2, 3)) for image in images[:20]]
    assert len(np.unique(signs, axis=0)) == 2
    assert_frequencies(signs[0].sum(), 1 / 2, 2000)


def test_cutout_covers_a_square_about_a_uniform_center():
  black = np.zeros((16, 20, 3), np.uint8)
  # Half a side is 56 px at 224 px, and 4 px at 16 px.
  covered = mapped(at_magnitude('Cutout', 14), black, 10_000) > 0
  ends = {}
  for axis, size in ((1, 16), (2, 20)):
    line = covered.any(3 - axis)[..., 0]
    first = line.argmax(1)
    end = size - line[:, ::-1].argmax(1)
    center = np.where(end < size, end - 4, first + 4)
    np.testing.assert_array_equal(first, np.maximum(center - 4, 0))
    np.testing.assert_array_equal(end, np.minimum(center + 4, size))
    assert_frequencies(np.bincount(center), 1 / size, 10_000)
    ends[size] = end - first
  np.testing.assert_array_equal(covered.sum((1, 2))[:, 0], ends[16] * ends[20])


@pytest.mark.parametrize('side', [224, 384])
def test_distances_in_px(side):
  black = np.zeros((side, side, 3), np.uint8)
  for magnitude, shift, half in zip(
    MAGNITUDES, (0, 100, 150, 200), (0, 40, 60, 80), strict=True
  ):
    for name, axis in (('TranslateX', 1), ('TranslateY', 0)):
      gray = run(name, black, magnitude).all((1 - axis, 2))
      assert gray.sum() == shift
      assert shift == 0 or gray[:shift].all() or gray[-shift:].all()
    draw = tf.random.stateless_uniform((2,), KEY) * side
    y, x = draw.numpy().astype(int)
    expected = black.copy()
    expected[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 128
    np.testing.assert_array_equal(run('Cutout', black, magnitude), expected)


def test_light1_changes_images(photo):
  """At magnitude 0, 7 of 16 operations do nothing.

  Two layers also change nothing if both invert, which Solarize does, too.
  """
  light1 = functools.partial(randaugment.randaugment, layers=2, magnitude=0)
  images = mapped(light1, photo, 1000)
  assert images.shape == (1000, *photo.shape)
  unchanged = (images == photo).all((1, 2, 3)).sum()
  assert_frequencies(unchanged, (7 * 7 + 2 * 2) / 256, 1000)


def test_other_random_numbers_do_not_change(monkeypatch):
  def transform(**options):
    return preprocess.train_transform(
      image_size=(12, 16),
      crop='inception',
      flip=True,
      rotate_degrees=10.0,
      shift=0.1,
      **options,
    )

  raw = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
  plain = transform()(tf.constant(raw), KEY)
  identities = dict.fromkeys(
    randaugment.OPERATIONS, lambda image, m, key: image
  )
  monkeypatch.setattr(randaugment, 'OPERATIONS', identities)
  image = transform(randaugment=(2, 10))(tf.constant(raw), KEY)
  levels = np.trunc(np.asarray(plain) * 127.5 + 127.5 + 1e-4)
  np.testing.assert_array_equal(np.asarray(image) * 127.5 + 127.5, levels)


def test_pixels_depend_on_seed_epoch_and_index_only():
  source = registry.open_source('digits', 'train[:12]')
  transform = preprocess.train_transform(
    image_size=(12, 12), crop='inception', flip=True, randaugment=(2, 10)
  )

  def images(count, **options):
    batches = pipeline.train_batches(
      source, transform, batch_size=8, seed=0, **options
    )
    return [batch['image'] for batch in itertools.islice(batches, count)]

  _, *later = images(3)
  shares = [
    images(2, start_step=1, process_index=i, process_count=2) for i in range(2)
  ]
  for batch, first, second in zip(later, *shares, strict=True):
    np.testing.assert_array_equal(batch, np.concatenate([first, second]))


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
