"""Preprocessing of one image: decode, crop, augment, scale to [-1, 1].

Every random choice is a function of a key. Results are float32 (h, w, c).
Resizing is bilinear without antialiasing, as in the public code of BiT and ViT;
evaluation can also resize with Pillow, as libraries for PyTorch do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import functools
import math

from jaxtyping import Float
import numpy as np
from PIL import Image

from vit_jax.data import assertions, decode
from vit_jax.data import randaugment as randaugment_lib
from vit_jax.data.lazy_tensorflow import tf

Size = tuple[int, int]  # Height, width.


def train_transform(
  *,
  image_size: Size,
  crop: str,
  flip: bool,
  precrop_size: Size | None = None,
  rotate_degrees: float = 0.0,
  scale: float = 0.0,
  shift: float = 0.0,
  area: tuple[float, float] = (0.05, 1.0),
  randaugment: Sequence[int] = (),
  decoder: decode.Decoder = decode.RGB,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
  """Returns a function that crops, flips and distorts training images.

  Args:
    image_size: height and width of the result, in pixels.
    crop: a key of CROPS.
    flip: whether to mirror images left to right with probability 1/2.
    precrop_size: size before the crop, in pixels; required by `random` and
      `center`.
    rotate_degrees: largest rotation in either direction.
    scale: largest zoom in or out, as a fraction.
    shift: largest translation in either direction, as a fraction of each side.
      Rotation, zoom and shift fill pixels from outside the image with black.
    area: smallest and largest fraction of the image kept by an inception crop.
    randaugment: layers and magnitude of RandAugment; empty: none. It follows
      all other augmentation.
    decoder: decodes images.

  Returns:
    A function of a raw image (see `decode.Decoder`) and a key (2,).

  Raises:
    ValueError: if the crop is unknown, a size or range is invalid, or images
      do not suit RandAugment.
  """
  crop_image = _choose_crop(CROPS, crop, image_size, precrop_size)
  _check_range('area', area[0], '(', 0, area[1], ']')
  _check_range('area', area[1], '[', area[0], 1, ']')
  _check_range('rotate_degrees', rotate_degrees, '[', 0, 180, ']')
  _check_range('scale', scale, '[', 0, 1, ')')
  _check_range('shift', shift, '[', 0, 1, ']')
  randaugment_lib.check(randaugment, decoder)

  def transform(raw, key):
    crop_key, flip_key, affine_key = tf.unstack(tf.random.split(key, 3))
    image = crop_image(raw, key=crop_key, area=area, decoder=decoder)
    if flip:
      image = tf.image.stateless_random_flip_left_right(image, flip_key)
    if rotate_degrees or scale or shift:
      amount = tf.random.stateless_uniform((4,), affine_key, -1.0, 1.0)
      image = affine(
        image,
        angle=amount[0] * math.radians(rotate_degrees),
        zoom=1 + amount[1] * scale,
        down=amount[2] * shift * image_size[0],
        right=amount[3] * shift * image_size[1],
      )
    if randaugment:
      layers, magnitude = randaugment
      image = randaugment_lib.randaugment(
        _to_uint8(image, image_size),
        tf.random.fold_in(key, _RANDAUGMENT),
        layers=layers,
        magnitude=magnitude,
      )
      image = tf.cast(image, tf.float32)
    return _to_unit_range(image, image_size, decoder)

  return transform


def eval_transform(
  *,
  image_size: Size,
  crop: str,
  precrop_size: Size | None = None,
  interpolation: str = 'bilinear',
  trim_px: int = 0,
  decoder: decode.Decoder = decode.RGB,
) -> Callable[[tf.Tensor], tf.Tensor]:
  """Returns a function that crops evaluation images.

  Args:
    image_size: height and width of the result, in pixels.
    crop: a key of EVAL_CROPS.
    precrop_size: size before the crop, in pixels; required by all crops except
      `resize`.
    interpolation: a key of INTERPOLATIONS.
    trim_px: width in pixels of a border to remove first, as in ObjectNet.
    decoder: decodes images.

  Returns:
    A function of a raw image (see `decode.Decoder`).

  Raises:
    ValueError: if the crop or interpolation is unknown, or a size is invalid.
  """
  crop_image = _choose_crop(
    EVAL_CROPS, crop, image_size, precrop_size, interpolation
  )

  def transform(raw):
    if trim_px:
      image = decoder(raw)
      assertions.require(
        tf.reduce_min(tf.shape(image)[:2]) > 2 * trim_px,
        f'data.trim_px={trim_px} leaves nothing of the image.',
      )
      raw = image[trim_px:-trim_px, trim_px:-trim_px]
    image = crop_image(raw, decoder=decoder)
    return _to_unit_range(image, image_size, decoder)

  return transform


def affine(
  image: Float[tf.Tensor, 'h w c'],
  *,
  angle: float | tf.Tensor = 0.0,
  zoom: float | tf.Tensor = 1.0,
  down: float | tf.Tensor = 0.0,
  right: float | tf.Tensor = 0.0,
) -> Float[tf.Tensor, 'h w c']:
  """Rotates and zooms an image about its center, then shifts it.

  The result has the same size and is sampled bilinearly; pixels from outside
  the image are zero.

  Args:
    image: an image with any number of channels.
    angle: counterclockwise rotation in radians.
    zoom: magnification; 2 doubles the size of objects.
    down: shift in pixels.
    right: shift in pixels.
  """
  size = tf.cast(tf.shape(image)[:2], tf.float32)
  center_y, center_x = tf.unstack((size - 1) / 2)
  # The operation takes the inverse map, from output to input coordinates.
  cos, sin = tf.cos(angle) / zoom, tf.sin(angle) / zoom
  out_x, out_y = center_x + right, center_y + down
  matrix = [
    cos, -sin, center_x - cos * out_x + sin * out_y,
    sin, cos, center_y - sin * out_x - cos * out_y,
    0.0, 0.0,
  ]  # fmt: skip
  return tf.raw_ops.ImageProjectiveTransformV3(
    images=image[None],
    transforms=tf.stack(matrix)[None],
    output_shape=tf.shape(image)[:2],
    interpolation='BILINEAR',
    fill_mode='CONSTANT',
    fill_value=0.0,
  )[0]


def _inception_crop(raw, *, key, image_size, area, decoder, **_):
  """Resizes a random window of the image (Szegedy et al. 2015, section 6)."""

  def choose_window(size):
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
      tf.concat([size, [3]], 0),
      tf.zeros((0, 0, 4)),
      key,
      min_object_covered=0.0,
      aspect_ratio_range=(3 / 4, 4 / 3),
      area_range=area,
      use_image_if_no_bounding_boxes=True,
    )
    return tf.concat([begin[:2], extent[:2]], 0)

  window = decoder.crop(raw, choose_window)
  return tf.image.resize(window, image_size)


def _interpolate(image, size, interpolation):
  """Resizes integer pixels; returns float32 in the same range."""
  filter = INTERPOLATIONS[interpolation]
  if filter is None:
    return tf.image.resize(image, size)

  def resize(pixels, size):
    height, width = size.tolist()
    # Pillow cannot resize 16-bit colours, and it weights colours by alpha.
    is_rgb = pixels.dtype == np.uint8 and pixels.shape[-1] == 3
    parts = [pixels] if is_rgb else np.moveaxis(pixels, -1, 0)
    return np.dstack(
      [Image.fromarray(x).resize((width, height), filter) for x in parts]
    )

  height, width, _ = tf.unstack(tf.shape(image))
  check = assertions.require(
    tf.maximum(height, width) <= _MAX_PILLOW_SIDE_PX,
    'an image of', height, 'x', width, 'px is not resized, because a side is'
    f' longer than {_MAX_PILLOW_SIDE_PX} px',
  )  # fmt: skip
  with tf.control_dependencies([check]):
    resized = tf.numpy_function(
      resize, [image, size], image.dtype, stateful=False
    )
  shape = (None, None, image.shape[-1])
  return tf.cast(tf.ensure_shape(resized, shape), tf.float32)


def _resize(raw, *, image_size, decoder, interpolation='bilinear', **_):
  """Resizes directly to image_size; the aspect ratio may change."""
  return _interpolate(decoder(raw), image_size, interpolation)


def _random_crop(raw, *, key, image_size, precrop_size, decoder, **_):
  """Resizes to precrop_size, then crops at random (BiT, section 3.3)."""
  image = tf.image.resize(decoder(raw), precrop_size)
  return tf.image.stateless_random_crop(
    image, (*image_size, decoder.channels), key
  )


def _center_crop(
  raw,
  *,
  image_size,
  precrop_size,
  decoder,
  interpolation='bilinear',
  **_,
):
  """Resizes to cover precrop_size, keeping the aspect ratio; center-crops."""
  image = decoder(raw)
  size = tf.shape(image)[:2]
  factor = tf.reduce_max(precrop_size / tf.cast(size, tf.float32))
  # The ends of a very long image are cut off first, which bounds memory.
  longest = tf.math.ceil(_MAX_STRETCH * max(precrop_size) / factor)
  top, left = tf.unstack(tf.maximum(size - tf.cast(longest, tf.int32), 0) // 2)
  image = image[top : size[0] - top, left : size[1] - left]
  size = tf.shape(image)[:2]
  if INTERPOLATIONS[interpolation] is None:
    size = tf.round(tf.cast(size, tf.float32) * factor)
  else:  # Libraries that use Pillow truncate the longer side.
    size = tf.cast(size, tf.int64)
    longer = size * precrop_size[::-1] // size[::-1]
    size = tf.maximum(longer, precrop_size)
  image = _interpolate(image, tf.cast(size, tf.int32), interpolation)
  return _center_window(image, image_size)


def _resize_center_crop(
  raw,
  *,
  image_size,
  precrop_size,
  decoder,
  interpolation='bilinear',
  **_,
):
  """Resizes to precrop_size, truncates to integers, then center-crops."""
  image = decoder(raw)
  dtype = image.dtype
  image = _interpolate(image, precrop_size, interpolation)
  image = tf.cast(tf.cast(image, dtype), tf.float32)
  return _center_window(image, image_size)


def _center_window(image, image_size):
  top, left = tf.unstack((tf.shape(image)[:2] - image_size) // 2)
  return image[top : top + image_size[0], left : left + image_size[1]]


CROPS: Mapping[str, Callable] = {
  'inception': _inception_crop,
  'resize': _resize,
  'random': _random_crop,
  'center': _center_crop,
}
EVAL_CROPS: Mapping[str, Callable] = {
  'resize': _resize,
  'center': _center_crop,
  'resize_center': _resize_center_crop,
}
# Pillow's filter, or None for TensorFlow's bilinear sampling. Libraries for
# PyTorch resize with Pillow, in fixed-point arithmetic; `tf.image.resize` with
# antialiasing rounds some pixels differently.
INTERPOLATIONS: Mapping[str, Image.Resampling | None] = {
  'bilinear': None,
  'bilinear_antialias': Image.Resampling.BILINEAR,
  'bicubic_antialias': Image.Resampling.BICUBIC,
  'lanczos_antialias': Image.Resampling.LANCZOS,
}
# Pillow passes sizes as float32, and its filter takes up to 48 bytes per pixel
# of a side.
_MAX_PILLOW_SIDE_PX = 2**24
# Longest side of a resized image, as a multiple of the size before the crop.
_MAX_STRETCH = 64
# Distinguishes RandAugment's key from those that the others are split from.
_RANDAUGMENT = 1
_NEED_PRECROP = ('random', 'center', 'resize_center')


def _choose_crop(
  crops, crop, image_size, precrop_size, interpolation='bilinear'
):
  """Returns a function that crops a raw image to these sizes."""
  if crop not in crops:
    raise ValueError(f'unknown crop {crop!r}; known: {", ".join(crops)}.')
  if interpolation not in INTERPOLATIONS:
    raise ValueError(
      f'unknown interpolation {interpolation!r}; known:'
      f' {", ".join(INTERPOLATIONS)}.'
    )
  if min(image_size) < 1:
    raise ValueError(
      f'image_size is (height, width), at least 1 pixel each; got {image_size}.'
    )
  if crop in _NEED_PRECROP and (
    not precrop_size
    or precrop_size[0] < image_size[0]
    or precrop_size[1] < image_size[1]
  ):
    raise ValueError(
      f'crop {crop!r} cuts {image_size} from an image resized to precrop_size,'
      f' which must be at least as large; got {precrop_size}.'
    )
  return functools.partial(
    crops[crop],
    image_size=image_size,
    precrop_size=precrop_size,
    interpolation=interpolation,
  )


def _check_range(name, value, left, low, high, right):
  """Checks an interval; parentheses exclude its bound, brackets include it."""
  above = value > low if left == '(' else value >= low
  below = value < high if right == ')' else value <= high
  if not (above and below):
    raise ValueError(
      f'{name} must be in {left}{low}, {high}{right}; got {value}.'
    )


def _to_uint8(image, image_size):
  """Truncates RGB values, as the public code of AugReg does."""
  # Bilinear sampling does not leave the range from 0 to 255.
  return tf.ensure_shape(tf.cast(image, tf.uint8), (*image_size, 3))


def _to_unit_range(image, image_size, decoder):
  """Maps the range of the decoder to [-1, 1]."""
  half = decoder.max_value / 2
  return tf.ensure_shape((image - half) / half, (*image_size, decoder.channels))
