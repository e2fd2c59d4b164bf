"""Finds near-duplicates of test images: re-encoded, cropped or mirrored copies.

Three steps, each applied to the results of the previous one:

1. Every image is reduced to a thumbnail of 64x64 px and hashed to 128 bits: the
   signs of the lowest frequencies of the cosine transform of its luminance.
   Signs do not change with brightness or contrast, and the lowest frequencies
   hardly change with encoding.
2. Candidates are pairs whose hashes differ in fewer than 36 bits; those of two
   unrelated photos differ in 64 bits on average. faiss compares all pairs of
   hashes of the test images and a batch of other images, in about 1 ns per pair
   and core. The hashes of the test images fit in the cache. Other images are
   streamed, so there may be any number of them. To find crops, the central 90 %
   of each image, on both sides, is hashed as well; mirroring an image inverts
   the signs of the odd horizontal frequencies.
3. For each candidate, `similarity` compares the pixels of both images, aligned
   as for their hashes: how much of one image the other explains, up to small
   shifts and zooms, contrast and brightness.

Blank images are not similar to any image.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from jaxtyping import Float, UInt8
import numpy as np

from vit_jax.data.lazy_tensorflow import tf

try:
  import faiss
except ImportError:  # An optional dependency.
  faiss = None

from vit_jax.data import decode

THUMBNAIL_PX = 64
HASH_BITS = 128
RADIUS = 36  # Hashes of candidates differ in fewer bits.
CROP = 0.9  # Fraction of each side in the central crop.
VIEW_PX = 32  # Side of the images compared by `similarity`.
_MAX_CANDIDATES = 32  # Per image.
_BLOCK_SIZE = 256  # Images per search; limits memory.
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601.


def thumbnail(
  raw: tf.Tensor, max_pixels: int = decode.MAX_PIXELS
) -> UInt8[tf.Tensor, '64 64 3']:
  """Decodes an image, see `decode.to_rgb`, and resizes it to a square."""
  size = (THUMBNAIL_PX, THUMBNAIL_PX)
  image = decode.to_rgb(raw, max_pixels)
  image = tf.image.resize(image, size, 'bilinear', antialias=True)
  # The static shape of a decoded file is unknown.
  return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), (*size, 3))


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
  """Returns vertical and horizontal indices of the lowest frequencies."""
  side = 16
  pairs = [(v, h) for v in range(side) for h in range(side) if v or h]
  pairs.sort(key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))
  v, h = np.array(pairs[:HASH_BITS]).T
  return v, h


_VERTICAL, _HORIZONTAL = _frequencies()
# XOR with this gives the hash of the mirrored image.
_MIRROR = np.packbits(_HORIZONTAL % 2)


def _cosines(fraction: float) -> Float[np.ndarray, 'frequency px']:
  """Returns zero-mean cosines over the central fraction, zero outside."""
  position = (np.arange(THUMBNAIL_PX) + 0.5) / THUMBNAIL_PX
  position = (position - 0.5) / fraction + 0.5
  inside = (position > 0) & (position < 1)
  waves = np.cos(np.pi * np.arange(_VERTICAL.max() + 1)[:, None] * position)
  waves[1:] -= waves[1:, inside].mean(axis=1, keepdims=True)
  return (waves * inside).astype(np.float32)


def hashes(
  thumbnails: UInt8[np.ndarray, 'b 64 64 3'], fraction: float = 1.0
) -> UInt8[np.ndarray, 'b 16']:
  """Returns hashes of the center crops with this fraction of each side."""
  luminance = thumbnails.astype(np.float32) @ _LUMINANCE
  waves = _cosines(fraction)
  spectrum = waves @ luminance @ waves.T
  return np.packbits(spectrum[:, _VERTICAL, _HORIZONTAL] > 0, axis=1)


def mirrored(hashed: UInt8[np.ndarray, 'b 16']) -> UInt8[np.ndarray, 'b 16']:
  """Returns the hashes of the same images, mirrored left to right."""
  return hashed ^ _MIRROR


def views(
  thumbnails: UInt8[np.ndarray, 'b 64 64 3'], fraction: float = 1.0
) -> UInt8[np.ndarray, 'b 32 32 3']:
  """Crops the central fraction of each side and resizes it by area."""
  edges = (0.5 + fraction * np.linspace(-0.5, 0.5, VIEW_PX + 1)) * THUMBNAIL_PX
  px = np.arange(THUMBNAIL_PX)
  begin, end = edges[:-1, None], edges[1:, None]
  overlap = np.minimum(px + 1, end) - np.maximum(px, begin)
  area = np.clip(overlap, 0, None).astype(np.float32)
  area /= area.sum(axis=1, keepdims=True)
  channels_first = thumbnails.transpose(0, 3, 1, 2).astype(np.float32)
  resized = area @ channels_first @ area.T
  return np.round(resized).astype(np.uint8).transpose(0, 2, 3, 1)


def similarity(
  copies: UInt8[np.ndarray, 'b 32 32 3'],
  originals: UInt8[np.ndarray, 'b 32 32 3'],
) -> Float[np.ndarray, ' b']:
  """Returns how well each original explains its copy, from 0 to 1.

  This is the multiple correlation of the copy with the original and with its
  derivatives with respect to shift and zoom: the tangents of Simard et al.,
  "Transformation Invariance in Pattern Recognition" (1998). The means of blocks
  of 4x4 px are subtracted first, so that details must agree; sharing, say, a
  bright sky over dark ground is not enough.
  """
  original = originals.astype(np.float32)
  down, right = np.gradient(original, axis=(1, 2))
  position = np.linspace(-1, 1, VIEW_PX, dtype=np.float32)
  zoom = down * position[:, None, None] + right * position[:, None]
  regressors = np.stack(
    [_detail(x) for x in (original, down, right, zoom)], axis=-1
  )
  target = _detail(copies.astype(np.float32))
  products = regressors.swapaxes(1, 2) @ regressors
  # Keeps the system solvable if an image is flat.
  ridge = 1e-6 * np.trace(products, axis1=1, axis2=2) + 1e-3
  products += ridge[:, None, None] * np.eye(4, dtype=np.float32)
  with_target = np.einsum('bni,bn->bi', regressors, target)
  weights = np.linalg.solve(products, with_target[..., None])[..., 0]
  explained = np.sum(weights * with_target, axis=1)
  explained /= np.maximum(np.sum(target**2, axis=1), 1e-3)
  return np.sqrt(np.clip(explained, 0, 1))


def _detail(images: np.ndarray) -> np.ndarray:
  """Subtracts the means of 4x4 px blocks; returns one row per image."""
  side = VIEW_PX // 4
  blocks = images.reshape(len(images), side, 4, side, 4, 3)
  blocks = blocks - blocks.mean(axis=(2, 4), keepdims=True)
  return blocks.reshape(len(images), -1)


class HashIndex:
  """Hashes in memory, searched exhaustively."""

  def __init__(self, stored: UInt8[np.ndarray, 'n 16']):
    """Indexes the hashes.

    Raises:
      ValueError: if faiss is not installed.
    """
    if faiss is None:
      raise ValueError(
        'finding near-duplicates requires faiss, which is not installed; run'
        " pip install 'faiss-cpu>=1.11'"
      )
    self._index = faiss.IndexBinaryFlat(HASH_BITS)
    self._index.add(stored)

  def near(
    self, queries: UInt8[np.ndarray, 'b 16']
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds the pairs that differ in fewer than RADIUS bits.

    At most the 32 nearest hashes are returned per query.

    Returns:
      Positions of the queries (increasing), positions of the stored hashes, and
      the number of differing bits of each pair.
    """
    blocks = [
      self._search(queries[start : start + _BLOCK_SIZE], start)
      for start in range(0, len(queries), _BLOCK_SIZE)
    ]
    return tuple(np.concatenate(column) for column in zip(*blocks, strict=True))

  def _search(self, queries, start):
    limits, bits, stored = self._index.range_search(queries, RADIUS)
    counts = np.diff(limits.astype(np.int64))
    row = np.repeat(np.arange(len(queries)), counts)
    order = np.lexsort((stored, bits, row))
    first = np.repeat(np.cumsum(counts) - counts, counts)
    order = order[np.arange(len(row)) - first < _MAX_CANDIDATES]
    return row[order] + start, stored[order], bits[order].astype(np.int64)


class Match(NamedTuple):
  """A near-duplicate.

  Attributes:
    index: position among the images searched.
    original: position among the test images.
    similarity: similarity of both, from 0 to 1.
  """

  index: int
  original: int
  similarity: float


class Matcher:
  """Test images to find near-duplicates of; each takes 6 KB of memory."""

  def __init__(self, batches: Iterable[UInt8[np.ndarray, 'b 64 64 3']]):
    """Indexes batches of thumbnails of the test images.

    Raises:
      ValueError: if faiss is not installed.
    """
    hashed, viewed = {1.0: [], CROP: []}, {1.0: [], CROP: []}
    for thumbnails in batches:
      for fraction in (1.0, CROP):
        hashed[fraction].append(hashes(thumbnails, fraction))
        viewed[fraction].append(views(thumbnails, fraction))
    self._views = {
      key: np.concatenate(blocks) for key, blocks in viewed.items()
    }
    whole, crop = np.concatenate(hashed[1.0]), np.concatenate(hashed[CROP])
    # For each fraction of the other image, the fractions of the test images to
    # compare it with, in the order of their hashes (each also mirrored).
    self._fractions = {1.0: (1.0, CROP), CROP: (1.0,)}
    both = [whole, mirrored(whole)]
    self._indices = {
      1.0: HashIndex(np.concatenate([*both, crop, mirrored(crop)])),
      CROP: HashIndex(np.concatenate(both)),
    }

  def __len__(self) -> int:
    return len(self._views[1.0])

  def find(
    self, thumbnails: UInt8[np.ndarray, 'b 64 64 3'], threshold: float
  ) -> list[Match]:
    """Returns the best match of each image that has one, by index.

    The similarity of a near-duplicate is at least `threshold`.
    """
    matches = []
    for fraction, index in self._indices.items():
      rows, stored, _ = index.near(hashes(thumbnails, fraction))
      alignments, originals = np.divmod(stored, len(self))
      for alignment in np.unique(alignments):
        aligned = alignments == alignment
        row, original = rows[aligned], originals[aligned]
        original_views = self._views[self._fractions[fraction][alignment // 2]]
        original_views = original_views[original]
        if alignment % 2:
          original_views = original_views[:, :, ::-1]
        near = similarity(views(thumbnails, fraction)[row], original_views)
        matches += map(Match, row.tolist(), original.tolist(), near.tolist())
    best = {}
    for match in sorted(matches, key=lambda m: m.similarity, reverse=True):
      if match.similarity >= threshold:
        best.setdefault(match.index, match)
    return sorted(best.values())
