"""Decodes image files and pixel arrays of any kind to RGB, uint8.

File types are recognized by content, never by name. Images are turned upright
according to their EXIF orientation. Alpha channels are dropped, gray is
repeated, palettes are looked up, CMYK is converted, the upper 8 of 16 bits are
kept, and an animation yields its first frame; only this frame is decoded.

The size in the header of a file is checked before any pixel is decoded. This
bounds memory: reading, decoding and resizing take at most 16 bytes per pixel.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import io
import operator

from jaxtyping import UInt8
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vit_jax.data import assertions, branches, exif
from vit_jax.data.lazy_tensorflow import tf

# Default limit of height times width. Pillow rejects larger images by default,
# so they are rare in datasets such as ImageNet-21k.
MAX_PIXELS = 178_956_970
Image.MAX_IMAGE_PIXELS = None  # The limit here is `max_pixels`.

# First bytes of the supported file types.
MAGIC = {
  'JPEG': (b'\xff\xd8\xff',),
  'PNG': (b'\x89PNG\r\n\x1a\n',),
  'GIF': (b'GIF8',),
  'BMP': (b'BM',),
  'WebP': (b'RIFF',),
  'TIFF': (b'II*\0', b'MM\0*'),
}
_PIXELS_AT_ONCE = 2**22
_FORMATS = tuple(name.upper() for name in MAGIC)  # As Pillow names them.


def to_rgb(
  raw: tf.Tensor, max_pixels: int = MAX_PIXELS
) -> UInt8[tf.Tensor, 'h w 3']:
  """Decodes an image and turns it upright.

  Args:
    raw: an encoded file (scalar string), or pixels (h, w, c) of type uint8 or
      uint16, with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA) channels.
    max_pixels: largest height times width of a file.

  Raises:
    tf.errors.InvalidArgumentError: if a file has more pixels, or cannot be
      decoded.
  """
  if raw.dtype != tf.string:
    return _pixels_to_rgb(raw)
  return _by_orientation(
    raw,
    lambda: _decode(raw, _jpeg_size(raw, max_pixels)),
    lambda orientation: _decode_others(raw, orientation, max_pixels),
  )


def jpeg_thumbnail(
  raw: tf.Tensor, max_pixels: int = MAX_PIXELS
) -> UInt8[tf.Tensor, 'h w 3']:
  """Decodes a JPEG file to an eighth of its size, not turned upright.

  Fails exactly if `to_rgb` fails, but takes a third less time, and a small part
  of the memory.
  """
  with tf.control_dependencies([_jpeg_size(raw, max_pixels)]):
    return tf.io.decode_jpeg(raw, channels=3, ratio=8, fancy_upscaling=False)


def cropped_to_rgb(
  raw: tf.Tensor,
  choose_window: Callable[[tf.Tensor], tf.Tensor],
  max_pixels: int = MAX_PIXELS,
) -> UInt8[tf.Tensor, 'h w 3']:
  """Decodes a window of an image.

  The rest of a JPEG file is not decoded, unless the image has to be turned.

  Args:
    raw: see `to_rgb`.
    choose_window: function from the upright image's (height, width) to the
      window's (top, left, height, width), all int32.
    max_pixels: see `to_rgb`.
  """

  def crop(image):
    top, left, height, width = tf.unstack(choose_window(tf.shape(image)[:2]))
    return image[top : top + height, left : left + width]

  def crop_while_decoding():
    size = _jpeg_size(raw, max_pixels)
    with tf.control_dependencies([size]):
      return tf.io.decode_and_crop_jpeg(raw, choose_window(size), channels=3)

  if raw.dtype != tf.string:
    return crop(_pixels_to_rgb(raw))
  return _by_orientation(
    raw,
    crop_while_decoding,
    lambda orientation: crop(_decode_others(raw, orientation, max_pixels)),
  )


def _by_orientation(raw, upright_jpeg, others):
  """Returns `upright_jpeg()` for such files, else `others(orientation)`."""

  def search():
    orientation = exif.orientation(raw)
    return tf.cond(
      _is(raw, 'JPEG') & (orientation == 1),
      upright_jpeg,
      lambda: others(orientation),
    )

  return tf.cond(exif.is_plain_jpeg(raw), upright_jpeg, branches.rare(search))


def _is(raw: tf.Tensor, kind: str) -> tf.Tensor:
  """Returns whether a file is of a kind in MAGIC."""
  starts = [tf.strings.substr(raw, 0, len(m)) == m for m in MAGIC[kind]]
  return functools.reduce(operator.or_, starts)


def _jpeg_size(raw: tf.Tensor, max_pixels: int) -> tf.Tensor:
  """Returns (height, width) in the header of a JPEG file, or fails.

  A file that is too short for its size is damaged: every block of 8x8 pixels
  takes at least one bit. The decoder would return gray pixels.
  """
  return _checked(
    tf.io.extract_jpeg_shape(raw)[:2],
    max_pixels,
    tf.minimum(
      tf.constant(max_pixels, tf.float64),
      512 * tf.cast(tf.strings.length(raw), tf.float64),
    ),
  )


def _png_size(raw: tf.Tensor, max_pixels: int) -> tf.Tensor:
  """Returns (height, width) in the header of a PNG file, or fails."""
  start = tf.minimum(16, tf.strings.length(raw))
  size = tf.io.decode_raw(
    tf.strings.substr(raw, start, 8),
    tf.int32,
    little_endian=False,
    fixed_length=8,
  )
  return _checked(size[::-1], max_pixels, max_pixels)


def _checked(
  size: tf.Tensor, max_pixels: int, most: int | tf.Tensor
) -> tf.Tensor:
  """Returns (height, width) if there are at most so many pixels, or fails."""
  height, width = tf.unstack(size)
  # In float64, since a product of two integers may overflow.
  pixels = tf.cast(height, tf.float64) * tf.cast(width, tf.float64)
  check = assertions.require(
    (pixels > 0) & (pixels <= most), *_wrong_size(height, width, max_pixels)
  )
  with tf.control_dependencies([check]):
    return tf.identity(size)


def _wrong_size(height, width, max_pixels: int) -> tuple:
  """Returns the parts of the message about an image of a wrong size."""
  return (
    'an image of', height, 'x', width, 'px is not decoded, because it has none,'
    f' more than data.max_pixels={max_pixels}, or more than its file can hold',
  )  # fmt: skip


def _decode_with_pillow(raw: tf.Tensor, max_pixels: int) -> tf.Tensor:
  """Decodes file types that TensorFlow does not fully support.

  Of a GIF file, TensorFlow decodes all frames.
  """

  def decode(file):
    try:
      with Image.open(io.BytesIO(file), formats=_FORMATS) as image:
        width, height = image.size
        if not 0 < width * height <= max_pixels:
          parts = _wrong_size(height, width, max_pixels)
          raise ValueError(' '.join(map(str, parts)))
        return _pillow_to_rgb(image)
    # Pillow raises errors of many types.
    except Exception as error:
      message = ' '.join(f'{error}'.split()) or type(error).__name__
      if isinstance(error, UnidentifiedImageError):
        message = f'it is not a {", ".join(MAGIC)} file'
      raise tf.errors.InvalidArgumentError(None, None, message) from error

  if tf.executing_eagerly():  # `numpy_function` would pass an array, not bytes.
    return tf.constant(decode(raw.numpy()))
  image = tf.numpy_function(decode, [raw], tf.uint8, stateful=False)
  return tf.ensure_shape(image, (None, None, 3))


def _pillow_to_rgb(image: Image.Image) -> np.ndarray:
  # Transparent pixels of a GIF file are black, as in TensorFlow.
  has_holes = image.format == 'GIF' and 'transparency' in image.info
  ImageOps.exif_transpose(image, in_place=True)
  if image.mode in ('I', 'F'):
    raise ValueError('images with 32 bits per channel are not supported')

  def convert(part):
    if part.mode.startswith('I;16'):
      return np.asarray(part)[..., None] // 256
    if has_holes:
      rgba = np.asarray(part.convert('RGBA'))
      return rgba[..., :3] * (rgba[..., 3:] > 0)
    return np.asarray(part.convert('RGB'))

  width, height = image.size
  pixels = np.empty((height, width, 3), np.uint8)
  rows = max(1, _PIXELS_AT_ONCE // width)  # Converting them copies them twice.
  for top in range(0, height, rows):
    bottom = min(top + rows, height)
    pixels[top:bottom] = convert(image.crop((0, top, width, bottom)))
  return pixels


def _decode(raw: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
  """Decodes a JPEG or PNG file after its size is checked."""
  with tf.control_dependencies([size]):
    return tf.io.decode_image(raw, channels=3, expand_animations=False)


def _decode_others(
  raw: tf.Tensor, orientation: tf.Tensor, max_pixels: int
) -> tf.Tensor:
  """Decodes a file with the given `exif.orientation`."""

  def decode_jpeg_or_png():
    size = tf.cond(
      _is(raw, 'JPEG'),
      lambda: _jpeg_size(raw, max_pixels),
      lambda: _png_size(raw, max_pixels),
    )
    return exif.turn(_decode(raw, size), orientation)

  return tf.cond(
    _is(raw, 'JPEG') | _is(raw, 'PNG'),
    decode_jpeg_or_png,
    lambda: _decode_with_pillow(raw, max_pixels),
  )


def _pixels_to_rgb(pixels: tf.Tensor) -> tf.Tensor:
  if pixels.dtype == tf.uint16:
    pixels = tf.cast(pixels // 256, tf.uint8)
  is_gray = tf.shape(pixels)[-1] < 3
  return tf.cond(
    is_gray, lambda: tf.repeat(pixels[..., :1], 3, -1), lambda: pixels[..., :3]
  )
