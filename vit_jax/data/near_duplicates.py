"""Near-duplicates of test images: copies, re-encoded, cropped, mirrored.

Three steps, each on what the one before lets through:

1. Every image becomes a thumbnail of 64x64 px, and that a hash of 128 bits: the
   signs of the lowest frequencies of its cosine transform, in luminance. Signs
   do not change with brightness or contrast, and the lowest frequencies little
   with encoding.
2. Candidates are pairs whose hashes differ in less than 36 bits; two photos
   that are not related differ in 64 bits on average. faiss compares all hashes
   of the test images with those of a batch of others, each with each, at about
   1 ns a pair and core. Test images are few, so that their hashes stay in the
   cache while any number of others streams by; nothing is kept of the latter.
   Crops are found because both sides are also hashed by their central 90 per
   cent, and mirrored images because mirroring inverts the signs of the odd
   horizontal frequencies.
3. Of each candidate, `similarity` compares the pixels of both images, aligned
   as their hashes were: the share of one that the other explains, up to small
   shifts and zooms, contrast and brightness.

Blank images are similar to none.
"""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses

from jaxtyping import Float, UInt8
import numpy as np

from vit_jax.data.lazy_tensorflow import tf

try:
  import faiss
except ImportError:  # One of the optional dependencies.
  faiss = None

from vit_jax.data import decode

THUMBNAIL_PX = 64
HASH_BITS = 128
RADIUS = 36  # Hashes of candidates differ in less bits.
CROP = 0.9  # Share of either side that is compared, too.
VIEW_PX = 32  # Side of what `similarity` compares.
_MAX_CANDIDATES = 32  # Of one image, the nearest.
_BLOCK = 256  # Images that are searched for at once; bounds the memory.
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601.


def thumbnail(raw: tf.Tensor) -> UInt8[tf.Tensor, '64 64 3']:
  """Decodes and resizes an image, whatever its shape."""
  size = (THUMBNAIL_PX, THUMBNAIL_PX)
  image = tf.image.resize(decode.to_rgb(raw), size, 'bilinear', antialias=True)
  # Decoding a file tells no shape before it is done.
  return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), (*size, 3))


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
  """Vertical and horizontal numbers of the HASH_BITS lowest frequencies."""
  side = 16
  pairs = [(v, h) for v in range(side) for h in range(side) if v or h]
  pairs.sort(key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))
  v, h = np.array(pairs[:HASH_BITS]).T
  return v, h


_VERTICAL, _HORIZONTAL = _frequencies()
# Turns a hash into that of the mirrored image.
_MIRROR = np.packbits(_HORIZONTAL % 2)


def _cosines(share: float) -> Float[np.ndarray, 'frequency px']:
  """Cosines over the central share of a side, zero outside, without mean."""
  position = (np.arange(THUMBNAIL_PX) + 0.5) / THUMBNAIL_PX
  position = (position - 0.5) / share + 0.5
  inside = (position > 0) & (position < 1)
  waves = np.cos(np.pi * np.arange(_VERTICAL.max() + 1)[:, None] * position)
  means = waves[1:, inside].mean(axis=1, keepdims=True)
  waves[1:] -= means
  return (waves * inside).astype(np.float32)


def hashes(
  thumbnails: UInt8[np.ndarray, 'b 64 64 3'], share: float = 1.0
) -> UInt8[np.ndarray, 'b 16']:
  """Hashes of the central share of each side of thumbnails."""
  luminance = thumbnails.astype(np.float32) @ _LUMINANCE
  waves = _cosines(share)
  spectrum = waves @ luminance @ waves.T
  return np.packbits(spectrum[:, _VERTICAL, _HORIZONTAL] > 0, axis=1)


def mirrored(of: UInt8[np.ndarray, 'b 16']) -> UInt8[np.ndarray, 'b 16']:
  """Hashes of the same images, mirrored left to right."""
  return of ^ _MIRROR


def views(
  thumbnails: UInt8[np.ndarray, 'b 64 64 3'], share: float = 1.0
) -> UInt8[np.ndarray, 'b 32 32 3']:
  """The central share of each side, resized by averaging over areas."""
  edges = (0.5 + share * np.linspace(-0.5, 0.5, VIEW_PX + 1)) * THUMBNAIL_PX
  px = np.arange(THUMBNAIL_PX)
  overlap = np.minimum(px + 1, edges[1:, None]) - np.maximum(
    px, edges[:-1, None]
  )
  area = np.clip(overlap, 0, None).astype(np.float32)
  area /= area.sum(axis=1, keepdims=True)
  channels_first = thumbnails.transpose(0, 3, 1, 2).astype(np.float32)
  resized = area @ channels_first @ area.T
  return np.round(resized).astype(np.uint8).transpose(0, 2, 3, 1)


def similarity(
  copies: UInt8[np.ndarray, 'b 32 32 3'],
  originals: UInt8[np.ndarray, 'b 32 32 3'],
) -> Float[np.ndarray, ' b']:
  """How well each copy is explained by its original, from 0 to 1.

  The multiple correlation of the copy with the original and its derivatives by
  shifts and zoom: the tangents of Simard et al., "Transformation Invariance in
  Pattern Recognition" (1998). Both lose the means of blocks of 4x4 px first,
  so that detail has to agree, not a bright sky over dark ground alone.
  """
  original = originals.astype(np.float32)
  down, right = np.gradient(original, axis=(1, 2))
  position = np.linspace(-1, 1, VIEW_PX, dtype=np.float32)
  zoom = down * position[:, None, None] + right * position[:, None]
  causes = np.stack(
    [_detail(x) for x in (original, down, right, zoom)], axis=-1
  )
  effect = _detail(copies.astype(np.float32))
  products = causes.swapaxes(1, 2) @ causes
  # Keeps the solution defined where an image is flat.
  ridge = 1e-6 * np.trace(products, axis1=1, axis2=2) + 1e-3
  products += ridge[:, None, None] * np.eye(4, dtype=np.float32)
  with_effect = np.einsum('bni,bn->bi', causes, effect)
  weights = np.linalg.solve(products, with_effect[..., None])[..., 0]
  explained = np.sum(weights * with_effect, axis=1)
  total = np.sum(effect**2, axis=1)
  share = explained / np.maximum(total, 1e-3)
  return np.sqrt(np.clip(share, 0, 1))


def _detail(images: np.ndarray) -> np.ndarray:
  """What remains without the means of 4x4 px, one row an image."""
  side = VIEW_PX // 4
  blocks = images.reshape(len(images), side, 4, side, 4, 3)
  blocks = blocks - blocks.mean(axis=(2, 4), keepdims=True)
  return blocks.reshape(len(images), -1)


class HashIndex:
  """Hashes in memory, all of which are compared with those asked for."""

  def __init__(self, stored: UInt8[np.ndarray, 'n 16']):
    """Takes the hashes to look among.

    Raises:
      ValueError: if faiss is not installed.
    """
    if faiss is None:
      raise ValueError(
        'finding near-duplicates needs faiss; install it with: pip install'
        " 'faiss-cpu>=1.11'"
      )
    self._index = faiss.IndexBinaryFlat(HASH_BITS)
    self._index.add(stored)

  def near(
    self, wanted: UInt8[np.ndarray, 'b 16']
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs with less than RADIUS bits of difference.

    Of each wanted hash, at most the 32 nearest.

    Returns:
      Positions among the wanted hashes (rising), positions among the stored
      ones, and bits of difference.
    """
    parts = [
      self._block(wanted[start : start + _BLOCK], start)
      for start in range(0, len(wanted), _BLOCK)
    ]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

  def _block(self, wanted, start):
    limits, bits, stored = self._index.range_search(wanted, RADIUS)
    counts = np.diff(limits.astype(np.int64))
    row = np.repeat(np.arange(len(wanted)), counts)
    order = np.lexsort((stored, bits, row))
    first = np.repeat(np.cumsum(counts) - counts, counts)
    order = order[np.arange(len(row)) - first < _MAX_CANDIDATES]
    return row[order] + start, stored[order], bits[order].astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Match:
  """A near-duplicate: its position in the batch, the test image's, how near."""

  row: int
  original: int
  similarity: float


class Matcher:
  """Looks for a set of test images in any number of others.

  A test image takes 6 KB of memory.
  """

  def __init__(self, batches: Iterable[UInt8[np.ndarray, 'b 64 64 3']]):
    """Takes thumbnails of the test images, in batches.

    Raises:
      ValueError: if faiss is not installed.
    """
    whole_hashes, crop_hashes, whole_views, crop_views = [], [], [], []
    for thumbnails in batches:
      whole_hashes.append(hashes(thumbnails))
      crop_hashes.append(hashes(thumbnails, CROP))
      whole_views.append(views(thumbnails))
      crop_views.append(views(thumbnails, CROP))
    self._views = {
      1.0: np.concatenate(whole_views),
      CROP: np.concatenate(crop_views),
    }
    whole, crop = np.concatenate(whole_hashes), np.concatenate(crop_hashes)
    # By the share of the other image: shares of the test image to compare
    # with, each upright and mirrored, in the order of their hashes.
    self._shares = {1.0: (1.0, CROP), CROP: (1.0,)}
    self._indices = {
      1.0: HashIndex(
        np.concatenate([whole, mirrored(whole), crop, mirrored(crop)])
      ),
      CROP: HashIndex(np.concatenate([whole, mirrored(whole)])),
    }

  def __len__(self) -> int:
    return len(self._views[1.0])

  def find(
    self, thumbnails: UInt8[np.ndarray, 'b 64 64 3'], threshold: float
  ) -> list[Match]:
    """The best match of each image that has one, by rising row.

    Args:
      thumbnails: of images to look at.
      threshold: the least similarity of a near-duplicate.
    """
    best = {}
    for share, index in self._indices.items():
      rows, stored, _ = index.near(hashes(thumbnails, share))
      alignments, originals = np.divmod(stored, len(self))
      for alignment in np.unique(alignments):
        chosen = alignments == alignment
        row, original = rows[chosen], originals[chosen]
        other_share = self._shares[share][alignment // 2]
        seen = self._views[other_share][original]
        if alignment % 2:
          seen = seen[:, :, ::-1]
        near = similarity(views(thumbnails, share)[row], seen)
        for match in map(Match, row.tolist(), original.tolist(), near.tolist()):
          if match.similarity >= threshold and (
            match.row not in best
            or match.similarity > best[match.row].similarity
          ):
            best[match.row] = match
    return [best[row] for row in sorted(best)]
