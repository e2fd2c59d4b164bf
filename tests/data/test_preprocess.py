"""Preprocessing: values worked out by hand, and properties of transforms."""

import io
import math
import pathlib

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from vit_jax import foreign_errors
from vit_jax.data import preprocess

PHOTOS = pathlib.Path(__file__).resolve().parents[3] / (
  'shared/data/imagenet_jpegs'
)


def ramps(height, width):
  """Returns pixels that encode their place: red 2 * row, green 2 * column."""
  y, x = np.mgrid[:height, :width]
  return np.stack([2 * y, 2 * x, 0 * x], -1).astype(np.uint8)


def key(seed=0):
  return tf.constant([seed, 0], tf.int64)


def pixels(image):
  """Maps [-1, 1] back to [0, 255]."""
  return np.asarray(image) * 127.5 + 127.5


def test_value_range_and_resize_without_antialiasing():
  # Halving by bilinear sampling lands between two pixels and averages them;
  # an antialiased result would weigh four.
  raw = np.array([[0, 255, 255, 0]], np.uint8)[..., None]
  transform = preprocess.eval_transform(image_size=(1, 2), crop='resize')
  image = transform(tf.constant(raw))
  np.testing.assert_allclose(image, np.zeros((1, 2, 3)), atol=1e-6)
  assert image.dtype == tf.float32
  same = preprocess.eval_transform(image_size=(1, 4), crop='resize')
  np.testing.assert_array_equal(same(tf.constant(raw))[0, :, 1], [-1, 1, 1, -1])


@pytest.mark.parametrize('crop', preprocess.CROPS)
def test_train_crops_are_functions_of_the_key(crop):
  transform = tf.function(
    preprocess.train_transform(
      image_size=(16, 24),
      crop=crop,
      flip=True,
      precrop_size=(20, 30),
      rotate_degrees=5,
      scale=0.1,
      shift=0.1,
    )
  )
  raw = tf.constant(ramps(40, 50))
  first = transform(raw, key(0))
  assert first.shape == (16, 24, 3)
  assert first.dtype == tf.float32
  np.testing.assert_array_equal(first, transform(raw, key(0)))
  assert np.abs(first - transform(raw, key(1))).max() > 0.01


def test_flip_is_random_and_left_to_right():
  transform = tf.function(
    preprocess.train_transform(image_size=(4, 6), crop='resize', flip=True)
  )
  raw = ramps(4, 6)
  flips = 0
  for seed in range(200):
    image = pixels(transform(tf.constant(raw), key(seed)))
    flipped = image[0, 0, 1] > 0
    flips += flipped
    np.testing.assert_allclose(
      image, raw[:, ::-1] if flipped else raw, atol=1e-4
    )
  assert 70 < flips < 130  # Four standard deviations about 100.


def test_random_crop_is_a_window_of_the_resized_image():
  transform = tf.function(
    preprocess.train_transform(
      image_size=(8, 10), crop='random', flip=False, precrop_size=(12, 16)
    )
  )
  corners = set()
  for seed in range(300):
    image = pixels(transform(tf.constant(ramps(12, 16)), key(seed))).round()
    top, left = image[0, 0, :2] / 2
    np.testing.assert_array_equal(
      image, ramps(12, 16)[int(top) :, int(left) :][:8, :10]
    )
    corners.add((top, left))
  assert corners == {(y, x) for y in range(5) for x in range(7)}


def test_center_crop_by_hand():
  # The shorter side, 20, stays as precrop's 20; the middle 8x10 of 20x40.
  transform = preprocess.eval_transform(
    image_size=(8, 10), crop='center', precrop_size=(20, 20)
  )
  image = pixels(transform(tf.constant(ramps(20, 40))))
  np.testing.assert_allclose(image, ramps(20, 40)[6:14, 15:25], atol=1e-4)
  # Twice as large in both directions: the aspect ratio is kept.
  transform = preprocess.eval_transform(
    image_size=(40, 40), crop='center', precrop_size=(40, 40)
  )
  image = pixels(transform(tf.constant(ramps(20, 40))))
  # The center of pixel (20, 40) of 40x80 lies at (20.5, 40.5) / 2 of 20x40,
  # that is, at pixel coordinates (9.75, 19.75); ramps rise by 2 per pixel.
  np.testing.assert_allclose(image[20, 20, :2], [19.5, 39.5], atol=1e-3)


@pytest.mark.parametrize('length', [100_000, 100_001])
def test_only_the_middle_of_a_very_long_image_is_enlarged(length):
  transform = preprocess.eval_transform(
    image_size=(8, 8), crop='center', precrop_size=(10, 10)
  )
  line = np.zeros((1, length, 3), np.uint8)
  line[0, length // 2 - 1 : length // 2 + 2] = [[30], [90], [210]]
  ends = (length - 20) // 2
  for image in (line, line.swapaxes(0, 1)):
    short = image[:, ends:-ends] if len(image) == 1 else image[ends:-ends]
    expected = transform(short)
    assert np.ptp(expected) > 0.3
    np.testing.assert_allclose(transform(image), expected, atol=1e-4)


def test_resize_center_crop_by_hand():
  # Twice the height, the same width: the aspect ratio is not kept. Values are
  # truncated to integers.
  transform = preprocess.eval_transform(
    image_size=(4, 4), crop='resize_center', precrop_size=(40, 40)
  )
  image = pixels(transform(tf.constant(ramps(20, 40))))
  # Rows 18 to 21 of 40 are at 8.75, 9.25, 9.75 and 10.25 of 20.
  rows, columns = [17, 18, 19, 20], [36, 38, 40, 42]
  np.testing.assert_allclose(image[:, 0, 0], rows, atol=1e-4)
  np.testing.assert_allclose(image[0, :, 1], columns, atol=1e-4)


@pytest.mark.parametrize(
  'interpolation, filter',
  [
    ('bilinear_antialias', Image.Resampling.BILINEAR),
    ('bicubic_antialias', Image.Resampling.BICUBIC),
    ('lanczos_antialias', Image.Resampling.LANCZOS),
  ],
)
@pytest.mark.parametrize(
  ('size', 'covering'),
  # The longer side is truncated: 30.5, 64.2 and 20.9990.
  [((61, 40), (30, 20)), ((24, 77), (20, 64)), ((1001, 1051), (20, 20))],
)
def test_antialiased_crops_agree_with_pil(
  interpolation, filter, size, covering
):
  raw = np.random.default_rng(0).integers(256, size=(*size, 3), dtype='u1')
  image = Image.fromarray(raw)
  height, width = covering
  resized = np.asarray(image.resize((width, height), filter), np.float32)
  top, left = (height - 16) // 2, (width - 16) // 2
  direct = image.resize((16, 16), filter)
  for crop, expected in (
    ('center', resized[top : top + 16, left : left + 16]),
    ('resize', np.asarray(direct, np.float32)),
  ):
    transform = preprocess.eval_transform(
      image_size=(16, 16),
      crop=crop,
      precrop_size=(20, 20),
      interpolation=interpolation,
    )
    for function in (transform, tf.function(transform)):
      np.testing.assert_allclose(
        pixels(function(tf.constant(raw))), expected, atol=1e-4
      )


def test_pillow_does_not_resize_extremely_long_images():
  transform = preprocess.eval_transform(
    image_size=(2, 2), crop='resize', interpolation='bicubic_antialias'
  )
  line = tf.zeros((1, 2**24 + 1, 3), tf.uint8)
  for function in (transform, tf.function(transform)):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
      function(line)
    message = foreign_errors.message(error.value)
    assert 'an image of 1 x 16777217 px is not resized' in message


def test_inception_crop_respects_area_and_aspect_ratio():
  transform = tf.function(
    preprocess.train_transform(
      image_size=(8, 8), crop='inception', flip=False, area=(0.2, 0.5)
    )
  )
  raw = tf.constant(ramps(100, 120))
  areas, ratios, tops = [], [], []
  for seed in range(200):
    image = pixels(transform(raw, key(seed)))
    # Samples lie an eighth of the window apart, inside it.
    height = (image[5, 0, 0] - image[2, 0, 0]) / 2 / 3 * 8
    width = (image[0, 5, 1] - image[0, 2, 1]) / 2 / 3 * 8
    areas.append(height * width / (100 * 120))
    ratios.append(width / height)
    tops.append(image[0, 0, 0] / 2)
  assert 0.18 < min(areas) < 0.22
  assert 0.46 < max(areas) < 0.52
  assert 0.72 < min(ratios) < 0.85
  assert 1.2 < max(ratios) < 1.37
  assert min(tops) < 8
  assert max(tops) > 40


def test_affine_by_hand():
  image = np.random.RandomState(0).rand(5, 5, 2).astype(np.float32)

  def affine(**changes):
    return preprocess.affine(tf.constant(image), **changes).numpy()

  np.testing.assert_allclose(affine(), image, atol=1e-6)
  np.testing.assert_allclose(
    affine(angle=math.pi / 2), np.rot90(image), atol=1e-5
  )
  shifted = affine(down=1.0, right=-2.0)
  np.testing.assert_allclose(shifted[1:, :3], image[:-1, 2:], atol=1e-6)
  assert not shifted[0].any()
  assert not shifted[:, 3:].any()
  # Twice as large: the center stays, its neighbors move to distance two.
  zoomed = affine(zoom=2.0)
  np.testing.assert_allclose(zoomed[::2, ::2], image[1:4, 1:4], atol=1e-6)


def test_rotation_scale_and_shift_stay_in_range():
  raw = np.zeros((41, 41, 3), np.uint8)
  raw[20, 20] = 255
  transform = tf.function(
    preprocess.train_transform(
      image_size=(41, 41), crop='resize', flip=False, shift=0.25
    )
  )
  y, x = np.mgrid[:41, :41]
  moves = []
  for seed in range(200):
    spot = pixels(transform(tf.constant(raw), key(seed)))[..., 0] / 255
    moves.append(((y * spot).sum() - 20, (x * spot).sum() - 20))
  moves = np.array(moves)
  assert np.abs(moves).max() <= 10.25 + 1e-3
  assert (moves.max(0) > 9).all()
  assert (moves.min(0) < -9).all()
  assert np.abs(np.corrcoef(moves.T)[0, 1]) < 0.3


@pytest.mark.parametrize(
  ('kind', 'options'),
  # Subsampled colors are interpolated differently at the edge of a window.
  [('JPEG', {'subsampling': 0}), ('PNG', {})],
)
def test_files_and_pixels_give_the_same_result(kind, options):
  file = io.BytesIO()
  Image.fromarray(ramps(48, 64)).save(file, kind, **options)
  raw = tf.constant(file.getvalue())
  whole = tf.io.decode_image(raw, expand_animations=False)
  transform = tf.function(
    preprocess.train_transform(image_size=(16, 16), crop='inception', flip=True)
  )
  for seed in range(5):
    np.testing.assert_allclose(
      transform(raw, key(seed)), transform(whole, key(seed)), atol=1e-6
    )


@pytest.mark.skipif(not PHOTOS.exists(), reason='needs real photos')
def test_real_photos():
  train = tf.function(
    preprocess.train_transform(image_size=(32, 48), crop='inception', flip=True)
  )
  test = tf.function(
    preprocess.eval_transform(image_size=(32, 48), crop='resize')
  )
  files = sorted(PHOTOS.glob('*.JPEG'))[::8]
  for seed, file in enumerate(files):
    raw = tf.constant(file.read_bytes())
    for image in (train(raw, key(seed)), test(raw)):
      assert image.shape == (32, 48, 3)
      assert -1 <= np.min(image) < np.max(image) <= 1


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'crop': 'middle'}, 'unknown crop .middle.; known: inception, resize'),
    ({'crop': 'random'}, 'at least as large; got None'),
    ({'crop': 'center', 'precrop_size': (9, 7)}, r'got \(9, 7\)'),
    ({'area': (0.0, 1.0)}, r'area must be in \(0, 1.0\]; got 0.0'),
    ({'area': (0.5, 1.1)}, r'area must be in \[0.5, 1\]; got 1.1'),
    ({'scale': 1.0}, r'scale must be in \[0, 1\); got 1.0'),
    ({'rotate_degrees': -1.0}, 'rotate_degrees .* got -1.0'),
    ({'image_size': (0, 8)}, r'image_size is \(height, width\)'),
  ],
)
def test_mistakes_are_explained(options, message):
  defaults = {'image_size': (8, 8), 'crop': 'inception', 'flip': True}
  with pytest.raises(ValueError, match=message):
    preprocess.train_transform(**{**defaults, **options})


def test_eval_refuses_random_crops():
  with pytest.raises(ValueError, match='known: resize, center'):
    preprocess.eval_transform(image_size=(8, 8), crop='inception')


def test_border_is_trimmed_first():
  raw = ramps(14, 24)
  raw[:2] = raw[-2:] = raw[:, :2] = raw[:, -2:] = [255, 0, 0]
  transform = preprocess.eval_transform(
    image_size=(10, 20), crop='resize', trim_px=2
  )
  np.testing.assert_allclose(
    pixels(transform(tf.constant(raw))), ramps(14, 24)[2:-2, 2:-2], atol=1e-4
  )
  file = io.BytesIO()
  Image.fromarray(raw).save(file, 'PNG')
  np.testing.assert_array_equal(
    transform(tf.constant(file.getvalue())), transform(tf.constant(raw))
  )
