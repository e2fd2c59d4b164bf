"""Images with one or four channels, and with 16 bits."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from vit_jax.data import decode, preprocess

GRAY, ALPHA = decode.Decoder(1), decode.Decoder(4)
DEEP_GRAY, DEEP_ALPHA = decode.Decoder(1, 16), decode.Decoder(4, 16)


def decoded(decoder, raw):
  """The pixels, from a whole file and from a window of it."""
  whole = decoder(tf.constant(raw)).numpy()
  window = decoder.crop(tf.constant(raw), lambda size: [0, 0, *size.numpy()])
  np.testing.assert_array_equal(whole, window)
  return whole


def encoded(image, kind):
  file = io.BytesIO()
  options = {'lossless': True, 'exact': True} if kind == 'WebP' else {}
  image.save(file, kind, **options)
  return file.getvalue()


def tiff(pixels, order='<', compressed=False):
  """A TIFF file with 16 bits per channel, which Pillow does not write."""
  height, width, channels = pixels.shape
  data = pixels.astype(f'{order}u2').tobytes()
  data = zlib.compress(data) if compressed else data
  bits_at, data_at = 200, 216
  tags = {
    256: width,
    257: height,
    258: bits_at if channels > 2 else 16,
    259: 8 if compressed else 1,
    262: 2 if channels > 2 else 1,
    273: data_at,
    277: channels,
    278: height,
    279: len(data),
    284: 1,
  }
  if channels == 4:
    tags[338] = 2
  directory = struct.pack(f'{order}H', len(tags))
  for tag, value in tags.items():
    count = channels if tag == 258 else 1
    kind = 'H' if tag == 258 and count == 1 else 'I'
    directory += struct.pack(f'{order}HHI', tag, 3 + (kind == 'I'), count)
    if tag == 258 and count > 1:  # Of type 3, elsewhere in the file.
      directory = directory[:-6] + struct.pack(f'{order}HI', 3, count)
    directory += struct.pack(f'{order}{kind}', value).ljust(4, b'\0')
  head = b'II*\0' if order == '<' else b'MM\0*'
  file = head + struct.pack(f'{order}I', 8) + directory + bytes(4)
  file = file.ljust(bits_at, b'\0')
  file += struct.pack(f'{order}{channels}H', *[16] * channels)
  return file.ljust(data_at, b'\0') + data


@pytest.mark.parametrize('kind', ['PNG', 'WebP', 'TIFF', 'BMP', 'GIF', 'JPEG'])
@pytest.mark.parametrize('mode', ['L', 'RGB', 'RGBA'])
def test_files_of_every_kind(kind, mode):
  pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
  image = Image.fromarray(pixels).convert(mode)
  has_alpha = mode == 'RGBA' and kind not in ('BMP', 'JPEG')
  raw = encoded(image if kind != 'JPEG' else image.convert('RGB'), kind)
  rgb = decode.to_rgb(tf.constant(raw)).numpy()
  luma = np.asarray(Image.fromarray(rgb).convert('L'))
  np.testing.assert_array_equal(decoded(GRAY, raw)[..., 0], luma)
  found = decoded(ALPHA, raw)
  np.testing.assert_array_equal(found[..., :3], rgb)
  with Image.open(io.BytesIO(raw)) as reopened:
    alpha = np.asarray(reopened.convert('RGBA'))[..., 3]
  np.testing.assert_array_equal(found[..., 3], alpha)
  assert (alpha.min() < 255) == has_alpha
  deep = decoded(DEEP_ALPHA, raw)
  np.testing.assert_array_equal(deep, 257 * found.astype(np.uint16))


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_16_bits_are_all_kept(channels):
  rng = np.random.default_rng(channels)
  pixels = rng.integers(0, 2**16, (9, 7, channels), np.uint16)
  for raw in (
    tf.io.encode_png(pixels).numpy(),
    tiff(pixels),
    tiff(pixels, '>'),
    tiff(pixels, compressed=True),
    pixels,
  ):
    found = decoded(DEEP_ALPHA, raw)
    expected = pixels[..., : min(channels, 3)]
    np.testing.assert_array_equal(
      found[..., :3], np.broadcast_to(expected, (9, 7, 3))
    )
    assert np.all(
      found[..., 3:] == (pixels[..., 3:] if channels > 3 else 65535)
    )
    np.testing.assert_array_equal(decoded(ALPHA, raw), found // 256)
    if channels == 1:
      np.testing.assert_array_equal(decoded(DEEP_GRAY, raw), pixels)


def test_luma_of_16_bits():
  colours = np.array([[[65535, 0, 0], [0, 65535, 0], [7, 7, 7]]], np.uint16)
  found = DEEP_GRAY(tf.constant(colours)).numpy().ravel()
  np.testing.assert_array_equal(found, [19595, 38469, 7])


@pytest.mark.parametrize('interpolation', preprocess.INTERPOLATIONS)
def test_crops_of_16_bits_agree_with_those_of_8(interpolation):
  pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 4), np.uint8)
  raw = tf.constant(encoded(Image.fromarray(pixels), 'PNG'))
  for crop in preprocess.EVAL_CROPS:
    shallow, deep = (
      preprocess.eval_transform(
        image_size=(8, 8),
        crop=crop,
        precrop_size=(10, 10),
        interpolation=interpolation,
        decoder=decoder,
      )(raw).numpy()
      for decoder in (ALPHA, DEEP_ALPHA)
    )
    assert shallow.shape == (8, 8, 4)
    # Rounding to 8 bits, or truncation.
    np.testing.assert_allclose(shallow, deep, atol=2.1 / 127.5)


@pytest.mark.parametrize('crop', preprocess.CROPS)
def test_training_crops(crop):
  pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 4), np.uint8)
  transform = preprocess.train_transform(
    image_size=(8, 8),
    crop=crop,
    precrop_size=(10, 10),
    flip=True,
    rotate_degrees=10,
    decoder=DEEP_GRAY,
  )
  raw = tf.constant(encoded(Image.fromarray(pixels), 'PNG'))
  image = transform(raw, tf.constant([1, 2], tf.int64)).numpy()
  assert image.shape == (8, 8, 1)
  assert image.std() > 0.1


def test_unknown_channels_and_bits():
  with pytest.raises(ValueError, match='to channels=2; known: 1, 3, 4'):
    decode.Decoder(channels=2)
  with pytest.raises(ValueError, match='to bits=12; known: 8, 16'):
    decode.Decoder(bits=12)
