"""Decoding every kind of image file that Pillow can write."""

import io
import re
import struct
import zlib

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from vit_jax import foreign_errors
from vit_jax.data import decode


def photo(height=24, width=32):
  """Returns a smooth picture with three different channels."""
  y, x = np.mgrid[:height, :width]
  channels = [x * 255 / width, y * 255 / height, (x + y) * 4 % 256]
  return np.stack(channels, -1).astype(np.uint8)


def encode(image, kind, **options):
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


_to_rgb = tf.function(decode.to_rgb)


def to_rgb(raw):
  decoded = _to_rgb(tf.constant(raw))
  assert decoded.dtype == tf.uint8
  return decoded.numpy()


RGB = Image.fromarray(photo())
GREY = RGB.convert('L')
ALPHA = Image.fromarray(photo()[..., 2])
CASES = {
  'RGB': RGB,
  'grey': GREY,
  'grey and alpha': Image.merge('LA', (GREY, ALPHA)),
  'RGBA': Image.merge('RGBA', (*RGB.split(), ALPHA)),
  'palette': RGB.quantize(200),
  'palette of 9': RGB.quantize(9),
  'one bit': GREY.convert('1'),
}


@pytest.mark.parametrize('mode', CASES)
@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'GIF', 'TIFF'])
def test_lossless_files_match_pillow(mode, kind):
  if kind == 'BMP' and mode == 'grey and alpha':
    pytest.skip('Pillow does not write it.')
  if kind == 'GIF' and mode == 'RGBA':
    pytest.skip('Transparent pixels of a GIF have no color to compare.')
  raw = encode(CASES[mode], kind)
  expected = Image.open(io.BytesIO(raw)).convert('RGB')
  np.testing.assert_array_equal(to_rgb(raw), expected)


@pytest.mark.parametrize('mode', ['RGB', 'grey', 'RGBA', 'palette'])
def test_lossless_webp_matches_pillow(mode):
  raw = encode(CASES[mode], 'WEBP', lossless=True, exact=True)
  expected = Image.open(io.BytesIO(raw)).convert('RGB')
  np.testing.assert_array_equal(to_rgb(raw), expected)


@pytest.mark.parametrize('byte_order', '<>')
def test_sixteen_bit_tiff_keeps_its_upper_bits(byte_order):
  values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + 77
  image = Image.fromarray(values.astype(f'{byte_order}u2'))
  np.testing.assert_array_equal(
    to_rgb(encode(image, 'TIFF'))[..., 0], np.arange(256).reshape(16, 16)
  )


def test_what_pillow_refuses_is_an_error():
  wide = encode(Image.fromarray(np.zeros((4, 4), np.float32)), 'TIFF')
  with pytest.raises(tf.errors.OpError, match='32 bits per channel'):
    to_rgb(wide)
  for raw in (encode(RGB, 'WEBP')[:60], b'RIFF, but a song'):
    with pytest.raises(tf.errors.OpError):
      to_rgb(raw)


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_png_palette_with_few_bits(bits):
  raw = encode(RGB.quantize(2**bits), 'PNG', bits=bits)
  expected = Image.open(io.BytesIO(raw)).convert('RGB')
  np.testing.assert_array_equal(to_rgb(raw), expected)


def test_png_palette_with_transparency():
  raw = encode(RGB.quantize(16), 'PNG', transparency=3)
  expected = Image.open(io.BytesIO(raw)).convert('RGB')
  np.testing.assert_array_equal(to_rgb(raw), expected)


def test_sixteen_bit_png_keeps_its_upper_bits():
  values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + 77
  decoded = to_rgb(encode(Image.fromarray(values), 'PNG'))
  np.testing.assert_array_equal(
    decoded, np.repeat(np.arange(256).reshape(16, 16, 1), 3, -1)
  )


def test_bmp_with_top_row_first():
  raw = bytearray(encode(RGB.quantize(200), 'BMP'))
  upside_down = to_rgb(bytes(raw))
  raw[22:26] = struct.pack('<i', -RGB.height)
  np.testing.assert_array_equal(to_rgb(bytes(raw)), upside_down[::-1])


def test_compressed_bmp():
  raw = encode(Image.fromarray(np.uint8([[7, 7, 7], [9, 9, 9]])), 'BMP')
  rows = b'\x03\x09\0\0\x03\x07\0\1'  # Runs of 3, from the bottom up.
  raw = raw[:30] + struct.pack('<II', 1, len(rows)) + raw[38:-8] + rows
  np.testing.assert_array_equal(to_rgb(raw)[..., 0], [[7, 7, 7], [9, 9, 9]])


def claims(kind, width, height):
  """Returns a file whose header has these sizes, without such a body."""
  raw = bytearray(encode(RGB.convert('P' if kind == 'GIF' else 'RGB'), kind))
  place, form = {
    'JPEG': (raw.find(b'\xff\xc0') + 5, '>HH'),  # Height, width.
    'PNG': (16, '>II'),
    'GIF': (6, '<HH'),
    'BMP': (18, '<ii'),
  }[kind]
  size = (height, width) if kind == 'JPEG' else (width, height)
  raw[place : place + struct.calcsize(form)] = struct.pack(form, *size)
  if kind == 'PNG':
    raw[29:33] = struct.pack('>I', zlib.crc32(raw[12:29]))
  return bytes(raw)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'GIF', 'BMP'])
def test_size_in_the_header_is_checked_before_decoding(kind):
  raw = claims(kind, 60_000, 50_000)
  message = '50000 x 60000 px is not decoded.*data.max_pixels=178956970'
  with pytest.raises(tf.errors.OpError, match=message):
    decode.to_rgb(tf.constant(raw))  # Eagerly.
  with pytest.raises(tf.errors.OpError) as error:
    to_rgb(raw)
  assert re.search(message, foreign_errors.message(error.value))
  window = tf.function(
    lambda raw: decode.RGB.crop(raw, lambda size: tf.zeros(4, tf.int32))
  )
  with pytest.raises(tf.errors.OpError) as error:
    window(tf.constant(raw))
  assert re.search(message, foreign_errors.message(error.value))


def test_a_jpeg_file_cannot_hold_more_than_a_block_per_bit():
  raw = encode(Image.new('L', (4096, 4096)), 'JPEG', optimize=True)
  assert decode.to_rgb(tf.constant(raw)).shape == (4096, 4096, 3)
  with pytest.raises(tf.errors.OpError, match='more than its file can hold'):
    decode.to_rgb(tf.constant(claims('JPEG', 1_000, 1_000)))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'GIF', 'BMP', 'TIFF', 'WEBP'])
def test_limit_of_pixels(kind):
  raw = tf.constant(encode(RGB, kind))
  assert decode.to_rgb(raw, max_pixels=24 * 32).shape == (24, 32, 3)
  with pytest.raises(tf.errors.OpError, match='of 24 x 32 px is not decoded'):
    decode.to_rgb(raw, max_pixels=24 * 32 - 1)


def test_only_one_frame_is_decoded():
  raw = encode(GREY, 'GIF', save_all=True, append_images=[ALPHA])
  # The second frame begins with its graphic control block.
  cut = raw[: raw.rindex(b'\x21\xf9') + 12]
  np.testing.assert_array_equal(to_rgb(cut), to_rgb(raw))


def test_transparent_pixels_of_a_gif_are_black():
  palette = RGB.quantize(8)
  raw = encode(palette, 'GIF', transparency=3)
  hole = np.asarray(palette)[..., None] == 3
  expected = np.where(hole, 0, np.asarray(palette.convert('RGB')))
  np.testing.assert_array_equal(to_rgb(raw), expected)


def test_other_files_are_not_images():
  for raw in (b'', b'text', b'\xff\x0a, JPEG XL', b'%!PS-Adobe-3.0 EPSF-3.0'):
    with pytest.raises(tf.errors.OpError, match='not a JPEG, PNG, GIF, BMP'):
      decode.to_rgb(tf.constant(raw))


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_jpeg(mode):
  raw = encode(RGB.convert(mode), 'JPEG', quality=95, subsampling=0)
  image = Image.open(io.BytesIO(raw))
  assert image.mode == mode
  difference = to_rgb(raw).astype(int) - np.asarray(image.convert('RGB'))
  # TensorFlow uses a faster inverse cosine transform than Pillow.
  assert np.abs(difference).max() <= 5
  assert np.abs(difference).mean() < 1.5


@pytest.mark.parametrize('kind', ['GIF', 'TIFF', 'WEBP'])
def test_animation_yields_its_first_frame(kind):
  frames = [Image.fromarray(photo() // k).quantize(64) for k in (1, 2, 3)]
  options = {'lossless': True} if kind == 'WEBP' else {}
  raw = encode(
    frames[0], kind, save_all=True, append_images=frames[1:], **options
  )
  assert Image.open(io.BytesIO(raw)).n_frames == 3
  np.testing.assert_array_equal(to_rgb(raw), frames[0].convert('RGB'))


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_pixel_arrays(channels, dtype):
  pixels = np.random.RandomState(0).randint(0, 256, (5, 7, channels))
  raw = (pixels * (257 if dtype == np.uint16 else 1)).astype(dtype)
  expected = pixels[..., [0, 0, 0] if channels < 3 else [0, 1, 2]]
  np.testing.assert_array_equal(to_rgb(raw), expected)


@pytest.mark.parametrize(
  'kind', ['JPEG', 'PNG', 'BMP', 'GIF', 'TIFF', 'WEBP', 'pixels']
)
def test_window_matches_that_part_of_the_image(kind):
  raw = photo() if kind == 'pixels' else encode(RGB, kind)

  def choose(size):
    np.testing.assert_array_equal(size, (24, 32))
    return tf.constant([5, 9, 12, 16])

  window = decode.RGB.crop(tf.constant(raw), choose)
  np.testing.assert_array_equal(window, to_rgb(raw)[5:17, 9:25])
