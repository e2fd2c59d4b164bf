"""Checks image files, and converts those that TFDS cannot read."""

from __future__ import annotations

from collections.abc import Callable
import functools

from vit_jax import foreign_errors
from vit_jax.data import decode
from vit_jax.data.lazy_tensorflow import tf

_MAX_BYTES = 2**30  # TensorFlow cannot parse records of 2 GiB.


def must_be_converted(data: bytes, max_pixels: int) -> bool:
  """Checks that an image file can be decoded; returns whether only by us.

  TFDS reads images with `tf.io.decode_image`, which yields no single image for
  a GIF file, and supports neither WebP nor TIFF nor all kinds of BMP.

  Args:
    data: the image file.
    max_pixels: largest height times width.

  Raises:
    ValueError: if it cannot be decoded, with the reason.
  """
  if len(data) > _MAX_BYTES:
    raise ValueError(f'it has {len(data):,} bytes, more than {_MAX_BYTES:,}')
  try:
    if data.startswith(decode.MAGIC['JPEG']):
      _check_jpeg(max_pixels)(data)
      return False
    decode.to_rgb(tf.constant(data), max_pixels)
  except tf.errors.OpError as error:
    if foreign_errors.is_out_of_memory(error):
      raise
    raise ValueError(foreign_errors.message(error)) from error
  if data.startswith(decode.MAGIC['PNG']):
    return False
  try:
    return tf.io.decode_image(data, channels=3).ndim != 3
  except tf.errors.InvalidArgumentError:
    return True


def to_png(data: bytes, max_pixels: int) -> bytes:
  """Returns an image file as PNG, turned upright."""
  image = decode.to_rgb(tf.constant(data), max_pixels)
  return tf.io.encode_png(image).numpy()


@functools.cache
def _check_jpeg(max_pixels: int) -> Callable[[bytes], tf.Tensor]:
  # As a graph, its dozen small operations take a fifth of the time.
  return tf.function(
    lambda raw: decode.jpeg_thumbnail(raw, max_pixels),
    input_signature=[tf.TensorSpec((), tf.string)],
  )
