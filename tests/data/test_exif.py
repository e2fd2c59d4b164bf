"""Orientations of photos: found in any file, applied in every use."""

import io

import numpy as np
from PIL import Image, ImageOps
import pytest
import tensorflow as tf

from vit_jax.data import (
  decode,
  exif,
  folder,
  near_duplicates,
  photos,
  pipeline,
  preprocess,
)

NOISE = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)
UPRIGHT = NOISE.repeat(8, 0).repeat(8, 1)  # Blocks of a JPEG file.
# EXIF 2.3, tag Orientation: where row 0 and column 0 of the file are shown.
STORED = {
  1: UPRIGHT,  # Top, left.
  2: UPRIGHT[:, ::-1],  # Top, right.
  3: UPRIGHT[::-1, ::-1],  # Bottom, right.
  4: UPRIGHT[::-1],  # Bottom, left.
  5: UPRIGHT.swapaxes(0, 1),  # Left, top.
  6: UPRIGHT[:, ::-1].swapaxes(0, 1),  # Right, top.
  7: UPRIGHT[::-1, ::-1].swapaxes(0, 1),  # Right, bottom.
  8: UPRIGHT[::-1].swapaxes(0, 1),  # Left, bottom.
}
LOSSLESS = {'PNG': {}, 'TIFF': {}, 'WEBP': {'lossless': True}}
KEY = [3, 4]

# Compiled once for all files.
to_rgb = tf.function(decode.to_rgb, [tf.TensorSpec((), tf.string)])
thumbnail = tf.function(
  near_duplicates.thumbnail, [tf.TensorSpec((), tf.string)]
)


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def cropped(raw):
  transform = preprocess.train_transform(
    image_size=(12, 12), crop='inception', flip=False, area=(0.2, 0.5)
  )
  return transform(raw, tf.constant(KEY, tf.int64))


@tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
def cropped_pixels(pixels):
  transform = preprocess.train_transform(
    image_size=(12, 12), crop='inception', flip=False, area=(0.2, 0.5)
  )
  return transform(pixels, tf.constant(KEY, tf.int64))


def encode(pixels, orientation=None, kind='JPEG', order='<', **options):
  tags = Image.Exif()
  tags.endian = order
  tags[0x010F] = 'Maker'
  if orientation is not None:
    tags[0x0112] = orientation
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, kind, exif=tags, **options)
  return file.getvalue()


def with_segments(file, *segments):
  """Inserts JPEG segments, each a marker and its data, at the beginning."""
  inserted = b''.join(
    b'\xff' + bytes([marker]) + (len(data) + 2).to_bytes(2, 'big') + data
    for marker, data in segments
  )
  return file[:2] + inserted + file[2:]


@pytest.mark.parametrize('kind', LOSSLESS)
@pytest.mark.parametrize('orientation', STORED)
def test_lossless_files_are_turned_upright(kind, orientation):
  pixels = np.ascontiguousarray(STORED[orientation])
  file = encode(pixels, orientation, kind, **LOSSLESS[kind])
  np.testing.assert_array_equal(to_rgb(file), UPRIGHT)
  np.testing.assert_array_equal(cropped(file), cropped_pixels(UPRIGHT))
  upright = encode(UPRIGHT, None, 'PNG')
  np.testing.assert_array_equal(thumbnail(file), thumbnail(upright))


@pytest.mark.parametrize('order', '<>')
@pytest.mark.parametrize('orientation', STORED)
def test_jpeg_files_are_turned_upright(order, orientation):
  pixels = np.ascontiguousarray(STORED[orientation])
  file = encode(pixels, orientation, order=order, quality=95, subsampling=0)
  assert Image.open(io.BytesIO(file)).getexif()[0x0112] == orientation
  stored = tf.io.decode_jpeg(file, channels=3).numpy()
  image = Image.fromarray(stored)
  image.getexif()[0x0112] = orientation
  upright = np.asarray(ImageOps.exif_transpose(image))
  np.testing.assert_array_equal(to_rgb(file), upright)
  np.testing.assert_allclose(upright.astype(int), UPRIGHT, atol=30)
  # The window is chosen in the upright image.
  np.testing.assert_array_equal(cropped(file), cropped_pixels(upright))


def test_a_folder_of_turned_photos_equals_one_of_upright_photos(tmp_path):
  transform = preprocess.eval_transform(
    image_size=(12, 12), crop='center', precrop_size=(14, 14)
  )
  images = {}
  for name, stored in ('turned', STORED), ('upright', dict.fromkeys(STORED)):
    (tmp_path / name / 'c').mkdir(parents=True)
    for orientation, pixels in stored.items():
      pixels = UPRIGHT if pixels is None else np.ascontiguousarray(pixels)
      tag = orientation if name == 'turned' else None
      file = tmp_path / name / 'c' / f'{orientation}.png'
      file.write_bytes(encode(pixels, tag, 'PNG'))
    source = folder.open_folder(str(tmp_path / name), 'train+test')
    (batch,) = pipeline.eval_batches(source, transform, batch_size=8)
    images[name] = batch['image']
    # Prediction reads single files.
    paths = [source.describe(i) for i in range(8)]
    predicted = [photos.read(path, transform) for path in paths]
    np.testing.assert_array_equal(predicted, batch['image'])
  np.testing.assert_array_equal(images['turned'], images['upright'])


def test_without_a_graph():
  for kind in ('JPEG', *LOSSLESS):
    for orientation in (None, 6):
      file = encode(UPRIGHT, orientation, kind)
      np.testing.assert_array_equal(
        decode.to_rgb(tf.constant(file)), to_rgb(file)
      )


JFIF = (0xE0, b'JFIF\0\x01\1\1' + bytes(6))
XMP = (0xE1, b'http://ns.adobe.com/xap/1.0/\0<x/>')
PHOTOSHOP = (0xED, b'Photoshop 3.0\0' + bytes(50))
ICC = (0xE2, b'ICC_PROFILE\0' + bytes(60_000))
COMMENT = (0xFE, b'Exif\0\0')


@pytest.mark.parametrize(
  'segments',
  [
    (),
    (JFIF,),
    (XMP,),
    (JFIF, PHOTOSHOP),
    (JFIF, ICC, ICC, ICC, XMP, COMMENT),
    (COMMENT, ICC),
    (PHOTOSHOP, COMMENT, ICC, ICC, ICC),
  ],
)
def test_segments_before_exif(segments):
  orientation_of = tf.function(exif.orientation, [tf.TensorSpec((), tf.string)])
  without = with_segments(encode(UPRIGHT), *segments)
  assert orientation_of(without) == 1
  for orientation in (3, 8):
    file = with_segments(encode(UPRIGHT, orientation), *segments)
    assert orientation_of(file) == orientation
    assert not exif.is_plain_jpeg(tf.constant(file))
  # Pillow writes no EXIF data if there are no tags.
  plain = io.BytesIO()
  Image.fromarray(UPRIGHT).save(plain, 'JPEG')
  file = with_segments(plain.getvalue(), *segments)
  assert orientation_of(file) == 1
  is_plain = segments in [(), (JFIF,), (JFIF, PHOTOSHOP)]
  assert exif.is_plain_jpeg(tf.constant(file)) == is_plain
  np.testing.assert_array_equal(to_rgb(file), tf.io.decode_jpeg(file))


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
@pytest.mark.parametrize('orientation', [None, 0, 1, 9, 255])
def test_other_values_leave_the_pixels_alone(kind, orientation):
  file = encode(UPRIGHT, orientation, kind)
  stored = tf.io.decode_image(file, channels=3)
  np.testing.assert_array_equal(to_rgb(file), stored)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_damaged_exif_is_ignored(kind):
  good = encode(UPRIGHT, 6, kind)
  start = good.index(b'II*\0')
  for length in (2, 8, 20, 44):
    for byte in (b'\0', b'\xff'):
      bad = good[:start] + byte * length + good[start + length :]
      # The checksum of the chunk in a PNG file no longer fits.
      assert exif.orientation(tf.constant(bad)) == 1
      if kind == 'JPEG':
        np.testing.assert_array_equal(to_rgb(bad), tf.io.decode_jpeg(bad))


def test_files_that_are_cut():
  for kind in ('JPEG', 'PNG'):
    good = encode(UPRIGHT, 6, kind)
    for length in range(0, len(good), 7):
      assert 0 <= exif.orientation(tf.constant(good[:length])) <= 8
  for file in (b'', b'words', encode(UPRIGHT, kind='PNG')[:40]):
    with pytest.raises(tf.errors.OpError):
      to_rgb(file)
