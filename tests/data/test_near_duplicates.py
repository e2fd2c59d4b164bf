"""Finding planted near-duplicates, and the bits of hashes."""

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from planted import COPIES, crop, photo
import runs
from vit_jax.data import folder, near_duplicates

FLOWERS = runs.SHARED / 'data' / 'flowers12'


def thumbnails(images):
  return np.stack(
    [
      near_duplicates.thumbnail(tf.constant(np.asarray(image)))
      for image in images
    ]
  )


@pytest.fixture(scope='module')
def originals():
  return [photo(seed) for seed in range(30)]


@pytest.fixture(scope='module')
def matcher(originals):
  small = thumbnails(originals)
  return near_duplicates.Matcher([small[:20], small[20:]])


@pytest.mark.parametrize('kind', COPIES)
def test_copies_are_found_and_others_are_not(originals, matcher, kind):
  copies = [COPIES[kind](originals[seed]) for seed in (3, 25)]
  others = [photo(seed) for seed in range(100, 110)]
  matches = matcher.find(thumbnails([*others, *copies]), 0.92)
  assert [(m.index, m.original) for m in matches] == [(10, 3), (11, 25)]
  if kind in ('exact', 'mirrored'):
    assert all(m.similarity > 0.999 for m in matches)


def test_a_test_image_that_is_a_crop_is_found(originals):
  matcher = near_duplicates.Matcher([thumbnails([crop(x) for x in originals])])
  mirrored = COPIES['mirrored'](originals[7])
  matches = matcher.find(thumbnails([photo(99), originals[7], mirrored]), 0.92)
  assert [(m.index, m.original) for m in matches] == [(1, 7), (2, 7)]


@pytest.mark.skipif(not FLOWERS.exists(), reason='needs real images')
def test_real_photos():
  test = folder.open_folder(str(FLOWERS), 'test[:40]')
  images = [Image.open(test.describe(i)) for i in range(40)]
  matcher = near_duplicates.Matcher([thumbnails(images[:20])])
  for kind, make in COPIES.items():
    copies = [make(image) for image in images[:10]] + images[20:]
    matches = matcher.find(thumbnails(copies), 0.92)
    assert [(m.index, m.original) for m in matches] == [
      (i, i) for i in range(10)
    ], kind


def test_hashes_of_mirrored_and_brighter_images(originals):
  small = thumbnails(originals)
  whole = near_duplicates.hashes(small)
  assert whole.shape == (30, near_duplicates.HASH_BITS // 8)
  np.testing.assert_array_equal(
    near_duplicates.mirrored(whole), near_duplicates.hashes(small[:, :, ::-1])
  )
  np.testing.assert_array_equal(
    near_duplicates.hashes(small // 2), near_duplicates.hashes(small // 2 + 60)
  )
  different = np.bitwise_count(whole[:, None] ^ whole[None]).sum(-1)
  off_diagonal = different[~np.eye(30, dtype=bool)]
  assert 60 < off_diagonal.mean() < 68
  assert off_diagonal.min() > near_duplicates.RADIUS


def test_similarity_by_hand():
  rng = np.random.default_rng(0)
  image = rng.integers(50, 150, (1, 32, 32, 3)).astype(np.uint8)
  noise = rng.integers(50, 150, (1, 32, 32, 3)).astype(np.uint8)
  blank = np.full_like(image, 99)
  assert near_duplicates.similarity(image, image) == pytest.approx(1, abs=1e-3)
  assert near_duplicates.similarity(image // 5 * 2 + 7, image // 5) > 0.999
  # Four random regressors explain about 4/3072 of the variance of noise.
  assert near_duplicates.similarity(noise, image) < 0.1
  assert near_duplicates.similarity(blank, image) == 0
  assert near_duplicates.similarity(image, blank) == 0
  # Equal parts of the image and of unrelated noise.
  half = image // 2 + noise // 2
  assert near_duplicates.similarity(half, image) == pytest.approx(
    0.5**0.5, abs=0.03
  )


def test_candidates_differ_in_fewer_bits_than_the_radius():
  rng = np.random.default_rng(0)
  stored = rng.integers(0, 256, (600, 16), dtype=np.uint8)
  index = near_duplicates.HashIndex(stored)
  wanted = []
  for row, bits in enumerate(
    (0, near_duplicates.RADIUS - 1, near_duplicates.RADIUS)
  ):
    flipped = np.unpackbits(stored[row])
    flipped[:bits] ^= 1
    wanted.append(np.packbits(flipped))
  # Also beyond the first block.
  wanted = np.stack([*wanted, *[stored[9]] * 300])
  rows, items, bits = index.near(wanted)
  assert rows.tolist() == [0, 1, *range(3, 303)]
  assert items.tolist() == [0, 1, *[9] * 300]
  assert bits[:2].tolist() == [0, near_duplicates.RADIUS - 1]


def test_only_the_nearest_of_many_candidates():
  stored = np.zeros((100, 16), np.uint8)
  stored[:60, 0] = 1
  rows, items, bits = near_duplicates.HashIndex(stored).near(stored[-1:])
  assert rows.tolist() == [0] * 32
  assert items.tolist() == list(range(60, 92))
  assert not bits.any()


def test_missing_faiss_is_explained(monkeypatch):
  monkeypatch.setattr(near_duplicates, 'faiss', None)
  with pytest.raises(ValueError, match=r"pip install 'faiss-cpu"):
    near_duplicates.HashIndex(np.zeros((1, 16), np.uint8))
