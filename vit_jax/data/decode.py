"""Decodes image files and pixel arrays of any kind, by default to 8-bit RGB.

File types are recognized by content, never by name. Images are turned upright
according to their EXIF orientation. Palettes are looked up, CMYK is converted,
and an animation yields its first frame; only this frame is decoded. For
channels and bits, see `Decoder`.

The size in the header of a file is checked before any pixel is decoded. This
bounds memory: reading, decoding and resizing take at most 16 bytes per pixel,
and twice as many for other channels or 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
import io
import operator

from jaxtyping import UInt, UInt8
from PIL import Image, UnidentifiedImageError

from vit_jax.data import assertions, branches, exif, pillow_pixels
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
_FORMATS = tuple(name.upper() for name in MAGIC)  # As Pillow names them.
CHANNELS = (1, 3, 4)
BITS = (8, 16)
# ITU-R 601-2, the weights of red, green and blue in Pillow's conversion to L.
LUMA = (19595, 38470, 7471)  # Their sum is 2**16.


@dataclasses.dataclass(frozen=True)
class Decoder:
  """Decodes images and turns them upright.

  Attributes:
    channels: 1, luma, as in Pillow's mode L; 3, RGB, without alpha; 4, RGB and
      alpha, which is opaque if an image has none. For RGB, gray is repeated.
    bits: 8, as uint8, the upper bits of images with 16; or 16, as uint16, to
      whose range images with 8 bits are scaled.
    max_pixels: largest height times width of a file.
  """

  channels: int = 3
  bits: int = 8
  max_pixels: int = MAX_PIXELS

  def __post_init__(self):
    """Checks channels and bits.

    Raises:
      ValueError: if images cannot be decoded to them.
    """
    for name, choices in (('channels', CHANNELS), ('bits', BITS)):
      if (value := getattr(self, name)) not in choices:
        known = ', '.join(map(str, choices))
        raise ValueError(
          f'images cannot be decoded to {name}={value}; known: {known}.'
        )

  @property
  def max_value(self) -> int:
    """The value of white."""
    return 2**self.bits - 1

  def __call__(self, raw: tf.Tensor) -> UInt[tf.Tensor, 'h w c']:
    """Decodes an image.

    Args:
      raw: an encoded file (scalar string), or pixels (h, w, c) of type uint8 or
        uint16, with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA) channels.

    Raises:
      tf.errors.InvalidArgumentError: if a file has more than `max_pixels`, or
        cannot be decoded.
    """
    if raw.dtype != tf.string:
      return self._convert_array(raw)
    return _by_orientation(
      raw,
      lambda: self._decode_jpeg(raw),
      lambda orientation: self._decode_others(raw, orientation),
    )

  def crop(
    self, raw: tf.Tensor, choose_window: Callable[[tf.Tensor], tf.Tensor]
  ) -> UInt[tf.Tensor, 'h w c']:
    """Decodes a window of an image.

    The rest of a JPEG file is not decoded, unless the image has to be turned.

    Args:
      raw: same as for a whole image.
      choose_window: function from the upright image's (height, width) to the
        window's (top, left, height, width), all int32.
    """

    def crop(image):
      top, left, height, width = tf.unstack(choose_window(tf.shape(image)[:2]))
      return image[top : top + height, left : left + width]

    def crop_while_decoding():
      size = _jpeg_size(raw, self.max_pixels)
      with tf.control_dependencies([size]):
        window = choose_window(size)
        rgb = tf.io.decode_and_crop_jpeg(raw, window, channels=3)
        return self._convert(rgb)

    if raw.dtype != tf.string:
      return crop(self._convert_array(raw))
    return _by_orientation(
      raw,
      crop_while_decoding,
      lambda orientation: crop(self._decode_others(raw, orientation)),
    )

  @property
  def _dtype(self) -> tf.DType:
    return tf.uint8 if self.bits == 8 else tf.uint16

  @property
  def _num_colours(self) -> int:
    """Channels before the conversion to gray."""
    return max(self.channels, 3)

  def _decode_jpeg(self, raw: tf.Tensor) -> tf.Tensor:
    size = _jpeg_size(raw, self.max_pixels)
    return self._convert(_decode(raw, size, 3, tf.uint8))

  def _decode_png(self, raw: tf.Tensor) -> tf.Tensor:
    size = _png_size(raw, self.max_pixels)
    return self._convert(_decode(raw, size, self._num_colours, self._dtype))

  def _decode_others(self, raw: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Decodes a file with the given `exif.orientation`."""

    def decode_jpeg_or_png():
      image = tf.cond(
        _is(raw, 'JPEG'),
        lambda: self._decode_jpeg(raw),
        lambda: self._decode_png(raw),
      )
      return exif.turn(image, orientation)

    return tf.cond(
      _is(raw, 'JPEG') | _is(raw, 'PNG'),
      decode_jpeg_or_png,
      lambda: self._decode_with_pillow(raw),
    )

  def _decode_with_pillow(self, raw: tf.Tensor) -> tf.Tensor:
    """Decodes file types that TensorFlow does not fully support.

    Of a GIF file, TensorFlow decodes all frames.
    """

    def decode(file):
      try:
        with Image.open(io.BytesIO(file), formats=_FORMATS) as image:
          width, height = image.size
          if not 0 < width * height <= self.max_pixels:
            parts = _wrong_size(height, width, self.max_pixels)
            raise ValueError(' '.join(map(str, parts)))
          return pillow_pixels.read(file, image, self._num_colours, self.bits)
      # Pillow raises errors of many types.
      except Exception as error:
        message = ' '.join(f'{error}'.split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
          message = f'it is not a {", ".join(MAGIC)} file'
        raise tf.errors.InvalidArgumentError(None, None, message) from error

    if tf.executing_eagerly():  # `numpy_function` would pass an array.
      image = tf.constant(decode(raw.numpy()))
    else:
      image = tf.numpy_function(decode, [raw], self._dtype, stateful=False)
    return self._convert(
      tf.ensure_shape(image, (None, None, self._num_colours))
    )

  def _convert_array(self, pixels: tf.Tensor) -> tf.Tensor:
    """Converts pixels with 1 to 4 channels."""
    count = tf.shape(pixels)[-1]
    converted = tf.cond(
      count < 3,
      lambda: tf.concat([pixels[..., :1]] * 3, -1),
      lambda: pixels[..., :3],
    )
    if self.channels == 4:
      alpha = tf.cond(
        count % 2 == 0,
        lambda: pixels[..., -1:],
        lambda: _opaque(pixels),
      )
      converted = tf.concat([converted, alpha], -1)
    shape = (None, None, self._num_colours)
    return self._convert(tf.ensure_shape(converted, shape))

  def _convert(self, pixels: tf.Tensor) -> tf.Tensor:
    """Converts RGB, or RGB and alpha if there are to be 4 channels."""
    if self.bits == 8 and pixels.dtype == tf.uint16:
      pixels = tf.cast(pixels // 256, tf.uint8)
    if self.bits == 16 and pixels.dtype == tf.uint8:
      pixels = tf.cast(pixels, tf.uint16) * 257  # 255 becomes 65535.
    if self.channels == 1:
      return _luma(pixels)
    if self.channels == 4 and pixels.shape[-1] == 3:
      return tf.concat([pixels, _opaque(pixels)], -1)
    return pixels


RGB = Decoder()


def to_rgb(
  raw: tf.Tensor, max_pixels: int = MAX_PIXELS
) -> UInt8[tf.Tensor, 'h w 3']:
  """Decodes an image to RGB of 8 bits; see `Decoder`."""
  return Decoder(max_pixels=max_pixels)(raw)


def jpeg_thumbnail(
  raw: tf.Tensor, max_pixels: int = MAX_PIXELS
) -> UInt8[tf.Tensor, 'h w 3']:
  """Decodes a JPEG file to an eighth of its size, not turned upright.

  Fails exactly if `to_rgb` fails, but takes a third less time, and a small part
  of the memory.
  """
  with tf.control_dependencies([_jpeg_size(raw, max_pixels)]):
    return tf.io.decode_jpeg(raw, channels=3, ratio=8, fancy_upscaling=False)


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


def _decode(
  raw: tf.Tensor, size: tf.Tensor, channels: int, dtype: tf.DType
) -> tf.Tensor:
  """Decodes a JPEG or PNG file after its size is checked."""
  with tf.control_dependencies([size]):
    return tf.io.decode_image(raw, channels, dtype, expand_animations=False)


def _opaque(pixels: tf.Tensor) -> tf.Tensor:
  """Returns an alpha channel (h, w, 1) for an opaque image."""
  return tf.ones_like(pixels[..., :1]) * pixels.dtype.max


def _luma(rgb: tf.Tensor) -> tf.Tensor:
  """Returns the luma (h, w, 1), rounded; that of gray is its value."""
  # Exact: the largest sum is below 2**32.
  terms = [
    tf.cast(rgb[..., i : i + 1], tf.uint32) * weight
    for i, weight in enumerate(LUMA)
  ]
  return tf.cast((tf.add_n(terms) + 2**15) // 2**16, rgb.dtype)
