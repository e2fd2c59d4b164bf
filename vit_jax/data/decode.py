"""Decodes image files and pixel arrays of any kind to RGB, uint8.

File types are recognized by content, never by name. Images are turned upright
according to their EXIF orientation. Alpha channels are dropped, gray is
repeated, palettes are looked up, CMYK is converted, the upper 8 of 16 bits are
kept, and an animation yields its first frame.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import io
import operator

from jaxtyping import UInt8
import numpy as np
from PIL import Image, ImageOps

from vit_jax.data import branches, exif
from vit_jax.data.lazy_tensorflow import tf

# Photos may have any size, as with TensorFlow.
Image.MAX_IMAGE_PIXELS = None

# First bytes of the supported file types.
MAGIC = {
  'JPEG': (b'\xff\xd8\xff',),
  'PNG': (b'\x89PNG\r\n\x1a\n',),
  'GIF': (b'GIF8',),
  'BMP': (b'BM',),
  'WebP': (b'RIFF',),
  'TIFF': (b'II*\0', b'MM\0*'),
}


def to_rgb(raw: tf.Tensor) -> UInt8[tf.Tensor, 'h w 3']:
  """Decodes an image and turns it upright.

  Args:
    raw: an encoded file (scalar string), or pixels (h, w, c) of type uint8 or
      uint16, with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA) channels.
  """
  if raw.dtype != tf.string:
    return _pixels_to_rgb(raw)
  return _decode(raw, exif.orientation(raw))


def cropped_to_rgb(
  raw: tf.Tensor, choose_window: Callable[[tf.Tensor], tf.Tensor]
) -> UInt8[tf.Tensor, 'h w 3']:
  """Decodes a window of an image.

  The rest of a JPEG file is not decoded, unless the image has to be turned.

  Args:
    raw: see `to_rgb`.
    choose_window: function from the upright image's (height, width) to the
      window's (top, left, height, width), all int32.
  """

  def crop(image):
    top, left, height, width = tf.unstack(choose_window(tf.shape(image)[:2]))
    return image[top : top + height, left : left + width]

  def crop_while_decoding():
    size = tf.io.extract_jpeg_shape(raw)[:2]
    return tf.io.decode_and_crop_jpeg(raw, choose_window(size), channels=3)

  if raw.dtype != tf.string:
    return crop(to_rgb(raw))
  orientation = exif.orientation(raw)
  return tf.cond(
    _is(raw, 'JPEG') & (orientation == 1),
    crop_while_decoding,
    branches.rare(lambda: crop(_decode(raw, orientation))),
  )


def _is(raw: tf.Tensor, kind: str) -> tf.Tensor:
  """Returns whether a file is of a kind in MAGIC."""
  starts = [tf.strings.substr(raw, 0, len(m)) == m for m in MAGIC[kind]]
  return functools.reduce(operator.or_, starts)


def _decode_with_pillow(raw: tf.Tensor) -> tf.Tensor:
  """Decodes file types that TensorFlow does not fully support."""

  def decode(file):
    try:
      with Image.open(io.BytesIO(file)) as image:
        return _pillow_to_rgb(ImageOps.exif_transpose(image))
    # Pillow raises errors of many types.
    except Exception as error:
      raise tf.errors.InvalidArgumentError(None, None, str(error)) from error

  if tf.executing_eagerly():  # `numpy_function` would pass an array, not bytes.
    return tf.constant(decode(raw.numpy()))
  image = tf.numpy_function(decode, [raw], tf.uint8, stateful=False)
  return tf.ensure_shape(image, (None, None, 3))


def _pillow_to_rgb(image: Image.Image) -> np.ndarray:
  if image.mode.startswith('I;16'):
    gray = (np.asarray(image) // 256).astype(np.uint8)
    return np.repeat(gray[..., None], 3, -1)
  if image.mode in ('I', 'F'):
    raise ValueError('images with 32 bits per channel are not supported')
  return np.asarray(image.convert('RGB'))


def _decode(raw: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
  """Decodes a file with the given `exif.orientation`."""

  def decode_with_tensorflow():
    return tf.io.decode_image(raw, channels=3, expand_animations=False)

  def decode_others():
    return tf.cond(
      _is(raw, 'BMP'),
      lambda: _decode_bmp(raw),
      lambda: tf.cond(
        _is(raw, 'WebP') | _is(raw, 'TIFF'),
        lambda: _decode_with_pillow(raw),
        lambda: exif.turn(decode_with_tensorflow(), orientation),
      ),
    )

  return tf.cond(
    orientation == 1,  # Upright JPEG and PNG files.
    decode_with_tensorflow,
    branches.rare(decode_others),
  )


def _pixels_to_rgb(pixels: tf.Tensor) -> tf.Tensor:
  if pixels.dtype == tf.uint16:
    pixels = tf.cast(pixels // 256, tf.uint8)
  is_gray = tf.shape(pixels)[-1] < 3
  return tf.cond(
    is_gray, lambda: tf.repeat(pixels[..., :1], 3, -1), lambda: pixels[..., :3]
  )


def _decode_bmp(raw: tf.Tensor) -> tf.Tensor:
  """Decodes BMP, including palettes, which `tf.io.decode_bmp` ignores.

  File format: offset of the pixels at byte 10, size of the second header at 14,
  width at 18, height at 22 (negative: top row first), bits per pixel at 28,
  compression at 30; then the palette, 4 bytes per colour (blue, green, red,
  unused), and the rows from the bottom up, each padded to 4 bytes.
  """

  def field(offset, dtype, length):
    return tf.io.decode_raw(tf.strings.substr(raw, offset, length), dtype)[0]

  bits = tf.cast(field(28, tf.uint16, 2), tf.int32)

  def true_color():
    return tf.io.decode_bmp(raw)[..., :3]

  def palette():
    start = field(10, tf.int32, 4)
    palette_start = 14 + field(14, tf.int32, 4)
    width, height = field(18, tf.int32, 4), field(22, tf.int32, 4)
    is_uncompressed = tf.debugging.Assert(
      field(30, tf.int32, 4) == 0, ['compressed BMP files are not supported']
    )
    with tf.control_dependencies([is_uncompressed]):
      row_bytes = (width * bits + 31) // 32 * 4
    rows = tf.abs(height)
    data = tf.io.decode_raw(
      tf.strings.substr(raw, start, rows * row_bytes), tf.uint8
    )
    data = tf.cast(tf.reshape(data, (rows, row_bytes, 1)), tf.int32)
    shifts = tf.range(8 - bits, -1, -bits)
    codes = tf.bitwise.right_shift(data, shifts) % tf.bitwise.left_shift(
      1, bits
    )
    codes = tf.reshape(codes, (rows, -1))[:, :width]
    codes = tf.cond(height > 0, lambda: codes[::-1], lambda: codes)
    colors = tf.io.decode_raw(
      tf.strings.substr(raw, palette_start, start - palette_start), tf.uint8
    )
    colors = tf.reshape(colors, (-1, 4))[:, 2::-1]
    return tf.gather(colors, codes)

  return tf.cond(bits <= 8, palette, true_color)
