"""RandAugment (Cubuk et al. 2019, arXiv 1909.13719) as AugReg uses it.

Every layer draws one of 16 operations uniformly, with replacement, and applies
it at a common magnitude. Operations and magnitudes are those of the public code
of AugReg (Steiner et al. 2021, arXiv 2106.10270); results agree with Pillow's.
Images are uint8 (h, w, 3) with a static shape. Pixels from outside the image
are gray. Distances in px are for sides of 224 px or more; they shrink with
shorter sides, since a shift by 100 px would leave nothing of a small image.

The layout of arrays and the choice of operations make this fast:
- arithmetic is in float32, since that of uint8 is not vectorized;
- images are handled as rows of w * 3 values where channels do not matter, since
  broadcasting or reducing next to a last axis of 3 is slow;
- `tf.where` on pixels is slow, since its branches are hard to predict;
- `tf.gather_nd` of whole pixels is faster than `tf.gather` and than
  `ImageProjectiveTransformV3`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import math

from jaxtyping import UInt8
import numpy as np

from vit_jax.data import decode
from vit_jax.data.lazy_tensorflow import tf

MAX_LAYERS = 16
MAX_MAGNITUDE = 30
_GRAY = 128
_FULL_SIDE_PX = 224
_SMOOTH_CENTER, _SMOOTH_SUM = 5, 13  # Of Pillow's kernel; the rest is ones.


def check(setting: Sequence[int], decoder: decode.Decoder) -> None:
  """Checks the setting of RandAugment.

  Args:
    setting: number of layers and magnitude, or nothing.
    decoder: decodes the images.

  Raises:
    ValueError: if it is invalid, or does not fit the images.
  """
  if not setting:
    return
  given = f'data.randaugment={",".join(map(str, setting))}'
  if (
    len(setting) != 2
    or not 1 <= setting[0] <= MAX_LAYERS
    or not 0 <= setting[1] <= MAX_MAGNITUDE
  ):
    raise ValueError(
      f'{given} is not LAYERS,MAGNITUDE with 1 to {MAX_LAYERS} layers and a'
      f' magnitude from 0 to {MAX_MAGNITUDE}, such as 2,10; leave it empty for'
      ' no RandAugment.'
    )
  if decoder.channels != 3 or decoder.bits != 8:
    raise ValueError(
      f'{given} needs RGB images with 8 bits, but data.channels='
      f'{decoder.channels} and data.bits={decoder.bits}; set them to 3 and 8,'
      ' or leave data.randaugment empty.'
    )


def randaugment(
  image: UInt8[tf.Tensor, 'h w 3'],
  key: tf.Tensor,
  *,
  layers: int,
  magnitude: int,
) -> UInt8[tf.Tensor, 'h w 3']:
  """Applies random operations to an image, one per layer.

  Args:
    image: an image with a static shape.
    key: key (2,) of all random numbers.
    layers: number of operations.
    magnitude: their magnitude, which AugReg varies from 0 to 20.
  """
  index_key, *keys = tf.unstack(tf.random.split(key, layers + 1))
  indices = tf.random.stateless_uniform(
    (layers,), index_key, 0, len(OPERATIONS), tf.int32
  )
  image_spec = tf.TensorSpec(image.shape, image.dtype)
  key_spec = tf.TensorSpec((2,), key.dtype)
  branches = [
    tf.function(operation, autograph=False).get_concrete_function(
      image_spec, magnitude, key_spec
    )
    for operation in OPERATIONS.values()
  ]
  for index, layer_key in zip(tf.unstack(indices), keys, strict=True):
    # `tf.switch_case` would visit the nodes of all branches.
    (image,) = tf.raw_ops.StatelessCase(
      branch_index=index,
      input=[image, layer_key],
      Tout=[image.dtype],
      branches=branches,
      output_shapes=[image_spec.shape],
    )
    image.set_shape(image_spec.shape)
  return image


def _auto_contrast(image, *unused):
  """Stretches each channel to the range from 0 to 255."""
  rows = _rows(image)
  low, high = (
    _by_channel(reduce, rows) for reduce in (tf.reduce_min, tf.reduce_max)
  )
  is_constant = low == high
  low = tf.where(is_constant, 0.0, low)
  factor = tf.where(is_constant, 1.0, 255 / (high - low))
  low, factor = (tf.tile(x, [image.shape[1]]) for x in (low, factor))
  # Whole numbers may come out slightly smaller, and are truncated below; others
  # have fractions of at least 1/255.
  return _to_image((rows - low) * factor + 0.001, image.shape)


def _equalize(image, *unused):
  """Makes the histogram of each channel as even as possible."""
  bins = np.tile(np.int32([0, 256, 512]), image.shape[1])
  values = tf.cast(tf.reshape(image, (image.shape[0], -1)), tf.int32) + bins
  counts = tf.histogram_fixed_width(values, (0, 3 * 256), 3 * 256)
  counts = tf.reshape(counts, (3, 256))
  below = tf.cumsum(counts, axis=1, exclusive=True)
  # Pillow leaves out the pixels of the largest value.
  step = tf.reduce_max(tf.where(counts > 0, below, 0), 1, keepdims=True) // 255
  table = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
  table = tf.where(step > 0, table, tf.range(256))
  table = tf.reshape(tf.cast(table, tf.uint8), [-1])
  return tf.reshape(tf.gather_nd(table, values[..., None]), image.shape)


def _invert(image, *unused):
  return 255 - image


def _rotate(image, magnitude, key):
  """Rotates by 30 m/10 degrees about the center, in either direction."""
  height, width, _ = image.shape
  x, y = width / 2, height / 2

  def matrix(sign):
    angle = sign * math.radians(3 * magnitude)
    cos, sin = math.cos(angle), math.sin(angle)
    return (
      cos, -sin, x - cos * x + sin * y,
      sin, cos, y - sin * x - cos * y,
    )  # fmt: skip

  return _sample(image, [matrix(-1), matrix(1)], key)


def _posterize(image, magnitude, *unused):
  """Keeps the upper int(4 m/10) bits."""
  dropped = max(8 - 4 * magnitude // 10, 0)
  return tf.bitwise.bitwise_and(image, tf.constant(256 - 2**dropped, tf.uint8))


def _solarize(image, magnitude, *unused):
  """Inverts values of at least int(256 m/10)."""
  rows = _rows(image)
  inverted = tf.cast(rows >= 256 * magnitude // 10, tf.float32)
  return _to_image(tf.abs(rows - 255 * inverted), image.shape)


def _solarize_add(image, magnitude, *unused):
  """Adds int(110 m/10) to values below 128."""
  rows = _rows(image)
  increase = tf.minimum(110.0 * magnitude // 10, 255 - rows)
  is_low = tf.cast(rows < 128, tf.float32)
  return _to_image(rows + is_low * increase, image.shape)


def _color(image, magnitude, *unused):
  """Blends with the luma."""
  pixels = tf.cast(tf.reshape(image, (-1, 3)), tf.float32)
  # Sums of weighted values have at most 24 bits, so they are exact.
  weights = np.repeat(np.float32(decode.LUMA)[:, None] / 2**16, 3, 1)
  luma = tf.floor(tf.matmul(pixels, weights) + 0.5)
  return _blend(luma, pixels, magnitude, image.shape)


def _contrast(image, magnitude, *unused):
  """Blends with the mean luma."""
  rows = _rows(image)
  means = _by_channel(tf.reduce_mean, rows)
  mean = tf.reduce_sum(means * np.float32(decode.LUMA)) / 2**16
  return _blend(tf.floor(mean + 0.5), rows, magnitude, image.shape)


def _brightness(image, magnitude, *unused):
  """Blends with black."""
  return _blend(0.0, _rows(image), magnitude, image.shape)


def _sharpness(image, magnitude, *unused):
  """Blends with the image smoothed by a kernel of 3x3 pixels."""
  rows = _rows(image)
  inside = rows[1:-1, 3:-3]
  columns = rows[:-2] + rows[1:-1] + rows[2:]
  total = columns[:, :-6] + columns[:, 3:-3] + columns[:, 6:]
  total += (_SMOOTH_CENTER - 1) * inside
  smooth = tf.floor(total / _SMOOTH_SUM + 0.5)
  # Pillow does not smooth the border.
  smooth = rows + tf.pad(smooth - inside, [[1, 1], [3, 3]])
  return _blend(smooth, rows, magnitude, image.shape)


def _shear_x(image, magnitude, key):
  """Shifts rows by 0.3 m/10 of their distance from the top, either way."""
  factor = 0.03 * magnitude
  return _sample(
    image, [(1, sign * factor, 0, 0, 1, 0) for sign in (-1, 1)], key
  )


def _shear_y(image, magnitude, key):
  """Shifts columns by 0.3 m/10 of their distance from the left, either way."""
  factor = 0.03 * magnitude
  return _sample(
    image, [(1, 0, 0, sign * factor, 1, 0) for sign in (-1, 1)], key
  )


def _translate_x(image, magnitude, key):
  """Shifts by 100 m/10 px to the left or right."""
  height, width, _ = image.shape
  shift = 3 * min(_px(10 * magnitude, width), width)
  rows = tf.reshape(image, (height, 3 * width))
  padded = tf.pad(rows, [[0, 0], [shift, shift]], constant_values=_GRAY)
  begin = 2 * shift * _random_bit(key)
  return tf.reshape(tf.slice(padded, [0, begin], rows.shape), image.shape)


def _translate_y(image, magnitude, key):
  """Shifts by 100 m/10 px up or down."""
  height = image.shape[0]
  shift = min(_px(10 * magnitude, height), height)
  padded = tf.pad(
    image, [[shift, shift], [0, 0], [0, 0]], constant_values=_GRAY
  )
  return tf.slice(padded, [2 * shift * _random_bit(key), 0, 0], image.shape)


def _cutout(image, magnitude, key):
  """Covers a square about a random pixel with gray.

  It extends int(40 m/10) px from the center in each direction and is cut off
  at the border of the image.
  """
  size = image.shape[:2]
  center = tf.random.stateless_uniform((2,), key) * tf.cast(size, tf.float32)
  center = tf.cast(center, tf.int32)
  half = _px(4 * magnitude, min(size))
  top, left = tf.unstack(tf.maximum(center - half, 0))
  bottom, right = tf.unstack(tf.minimum(center + half, size))
  covered = image[top:bottom]
  gray = tf.fill((bottom - top, right - left, 3), tf.constant(_GRAY, tf.uint8))
  covered = tf.concat([covered[:, :left], gray, covered[:, right:]], 1)
  image_with = tf.concat([image[:top], covered, image[bottom:]], 0)
  return tf.ensure_shape(image_with, image.shape)


# Functions of (image, magnitude, key) that return an image of the same shape.
OPERATIONS: Mapping[str, Callable] = {
  'AutoContrast': _auto_contrast,
  'Equalize': _equalize,
  'Invert': _invert,
  'Rotate': _rotate,
  'Posterize': _posterize,
  'Solarize': _solarize,
  'SolarizeAdd': _solarize_add,
  'Color': _color,
  'Contrast': _contrast,
  'Brightness': _brightness,
  'Sharpness': _sharpness,
  'ShearX': _shear_x,
  'ShearY': _shear_y,
  'TranslateX': _translate_x,
  'TranslateY': _translate_y,
  'Cutout': _cutout,
}


def _sample(image, matrices, key):
  """Samples the nearest pixels, transformed by one of the matrices.

  The convention is that of Pillow's `Image.transform` with `AFFINE`: a matrix
  (a, b, c, d, e, f) maps a point (x, y) of the result to (a x + b y + c,
  d x + e y + f) in the image, centers of pixels are at halves, and coordinates
  have 16 fractional bits.
  """
  height, width, _ = image.shape
  a, b, c, d, e, f = np.transpose(matrices)
  # One pixel more, for the border of gray.
  c = c + (a + b) / 2 + 1
  f = f + (d + e) / 2 + 1
  fixed = np.floor(np.stack([a, b, c, d, e, f], 1) * 2**16 + 0.5)
  a, b, c, d, e, f = tf.unstack(
    tf.constant(fixed.astype(np.int32))[_random_bit(key)]
  )
  x, y = tf.range(width), tf.range(height)[:, None]

  def coordinate(fixed, size):
    whole = tf.bitwise.right_shift(fixed, 16)
    return tf.clip_by_value(whole, 0, size + 1)

  column = coordinate(a * x + (b * y + c), width)
  row = coordinate(d * x + (e * y + f), height)
  bordered = tf.pad(image, [[1, 1], [1, 1], [0, 0]], constant_values=_GRAY)
  pixels = tf.reshape(bordered, (-1, 3))
  return tf.gather_nd(pixels, (row * (width + 2) + column)[..., None])


def _blend(start, values, magnitude, shape):
  """Goes from `start` to the values and beyond, as Pillow's `Image.blend`."""
  factor = 0.18 * magnitude + 0.1
  blended = start + factor * (values - start)
  return _to_image(tf.clip_by_value(blended, 0.0, 255.0), shape)


def _rows(image):
  """Returns the values of an image as float32 (h, w * 3)."""
  return tf.cast(tf.reshape(image, (image.shape[0], -1)), tf.float32)


def _to_image(values, shape):
  """Truncates values from 0 to 255."""
  return tf.reshape(tf.cast(values, tf.uint8), shape)


def _by_channel(reduce, rows):
  """Reduces rows to one value per channel, (3,)."""
  return reduce(tf.reshape(reduce(rows, 0), (-1, 3)), 0)


def _px(distance, side):
  """Returns a distance in px, given that for sides of at least 224 px."""
  return distance * min(side, _FULL_SIDE_PX) // _FULL_SIDE_PX


def _random_bit(key):
  return tf.random.stateless_uniform((), key, 0, 2, tf.int32)
