"""Encoded files and pixel arrays of any kind to RGB, uint8.

Files are recognised by their content, never by their name. Alpha channels are
dropped, grey is repeated, palettes are looked up, CMYK is converted, and of 16
bits the upper 8 are kept; an animation gives its first frame.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import UInt8

from vit_jax.data.lazy_tensorflow import tf

# First bytes of the files that can be decoded.
MAGIC = {
  'JPEG': b'\xff\xd8\xff',
  'PNG': b'\x89PNG\r\n\x1a\n',
  'GIF': b'GIF8',
  'BMP': b'BM',
}


def to_rgb(raw: tf.Tensor) -> UInt8[tf.Tensor, 'h w 3']:
  """Decodes an image.

  Args:
    raw: an encoded file (scalar string), or pixels (h, w, c) of type uint8 or
      uint16, with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels.
  """
  if raw.dtype != tf.string:
    return _pixels_to_rgb(raw)
  return tf.cond(
    _is(raw, 'BMP'),
    lambda: _decode_bmp(raw),
    lambda: tf.io.decode_image(raw, channels=3, expand_animations=False),
  )


def cropped_to_rgb(
  raw: tf.Tensor, choose_window: Callable[[tf.Tensor], tf.Tensor]
) -> UInt8[tf.Tensor, 'h w 3']:
  """Decodes a window of an image; of a JPEG, little more than that window.

  Args:
    raw: as for `to_rgb`.
    choose_window: from the image's (height, width) to the window's (top, left,
      height, width), all int32.
  """

  def decode_then_crop():
    image = to_rgb(raw)
    top, left, height, width = tf.unstack(choose_window(tf.shape(image)[:2]))
    return image[top : top + height, left : left + width]

  def crop_while_decoding():
    size = tf.io.extract_jpeg_shape(raw)[:2]
    return tf.io.decode_and_crop_jpeg(raw, choose_window(size), channels=3)

  if raw.dtype != tf.string:
    return decode_then_crop()
  return tf.cond(_is(raw, 'JPEG'), crop_while_decoding, decode_then_crop)


def _is(raw: tf.Tensor, kind: str) -> tf.Tensor:
  """Whether a file is of one kind of MAGIC."""
  return tf.strings.substr(raw, 0, len(MAGIC[kind])) == MAGIC[kind]


def _pixels_to_rgb(pixels: tf.Tensor) -> tf.Tensor:
  if pixels.dtype == tf.uint16:
    pixels = tf.cast(pixels // 256, tf.uint8)
  grey = tf.shape(pixels)[-1] < 3
  return tf.cond(
    grey, lambda: tf.repeat(pixels[..., :1], 3, -1), lambda: pixels[..., :3]
  )


def _decode_bmp(raw: tf.Tensor) -> tf.Tensor:
  """Decodes BMP, palettes included, which TensorFlow's own operation ignores.

  File format: offset of the pixels at byte 10, size of the header that follows
  at 14, width at 18, height at 22 (negative: top row first), bits a pixel at
  28, compression at 30; then the palette, 4 bytes a colour (blue, green, red,
  unused), and rows from the bottom up, each padded to 4 bytes.
  """

  def field(offset, dtype, length):
    return tf.io.decode_raw(tf.strings.substr(raw, offset, length), dtype)[0]

  bits = tf.cast(field(28, tf.uint16, 2), tf.int32)

  def true_colour():
    return tf.io.decode_bmp(raw)[..., :3]

  def palette():
    start = field(10, tf.int32, 4)
    palette_start = 14 + field(14, tf.int32, 4)
    width, height = field(18, tf.int32, 4), field(22, tf.int32, 4)
    plain = tf.debugging.Assert(
      field(30, tf.int32, 4) == 0, ['a compressed BMP cannot be decoded']
    )
    with tf.control_dependencies([plain]):
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
    colours = tf.io.decode_raw(
      tf.strings.substr(raw, palette_start, start - palette_start), tf.uint8
    )
    colours = tf.reshape(colours, (-1, 4))[:, 2::-1]
    return tf.gather(colours, codes)

  return tf.cond(bits <= 8, palette, true_colour)
