"""Finding image files and turning them upright."""

import io

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from vit_jax.data import decode, photos


def encode(pixels, orientation=None, kind='PNG'):
  file = io.BytesIO()
  exif = Image.Exif()
  if orientation is not None:
    exif[0x0112] = orientation
  Image.fromarray(pixels).save(file, kind, exif=exif)
  return file.getvalue()


UPRIGHT = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
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


@pytest.mark.parametrize('orientation', STORED)
def test_exif_orientation_is_applied(orientation):
  file = encode(STORED[orientation], orientation)
  np.testing.assert_array_equal(photos.decode_upright(file), UPRIGHT)


def test_exif_orientation_of_jpeg():
  photo = np.zeros((16, 32, 3), np.uint8)
  photo[:, :16] = 255
  file = encode(np.rot90(photo), 6, 'JPEG')
  np.testing.assert_allclose(photos.decode_upright(file), photo, atol=5)


@pytest.mark.parametrize('orientation', [None, 0, 9])
def test_other_files_decode_as_in_evaluation(orientation):
  noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
  file = encode(noise, orientation, 'JPEG')
  np.testing.assert_array_equal(
    photos.decode_upright(file), decode.to_rgb(tf.constant(file))
  )


def test_damaged_exif_is_ignored():
  good = encode(np.zeros((8, 8, 3), np.uint8), 6, 'JPEG')
  start = good.index(b'Exif\0\0') + 6
  for length in (2, 8, 20):
    bad = good[:start] + b'\xff' * length + good[start + length :]
    assert photos.decode_upright(bad).shape == (8, 8, 3)


def test_other_files_are_an_error():
  for file in (b'', b'words', encode(UPRIGHT)[:40]):
    with pytest.raises(tf.errors.OpError):
      photos.decode_upright(file)


def test_files_and_folders_are_found(tmp_path):
  for name in ('b/2.jpg', 'b/c/1.PNG', 'b/a.gif', 'b/notes.txt', 'b/.x/1.jpg',
               'b/.1.jpg', 'other.image'):  # fmt: skip
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  found = photos.find([f'{tmp_path}/other.image', f'{tmp_path}/b'])
  names = ['other.image', 'b/2.jpg', 'b/a.gif', 'b/c/1.PNG']
  assert found == [f'{tmp_path}/{name}' for name in names]
  with pytest.raises(ValueError, match="'/nowhere' does not exist"):
    photos.find(['/nowhere'])
  (tmp_path / 'empty').mkdir()
  with pytest.raises(ValueError, match='empty.* contains no images; .*jpg'):
    photos.find([f'{tmp_path}/empty'])
