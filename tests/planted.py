"""Synthetic photos and near-duplicates of them."""

import io

import numpy as np
from PIL import Image


def photo(seed, side=96):
  """Returns blots of all sizes, as different for each seed as photos are."""
  rng = np.random.default_rng(seed)
  pixels = np.zeros((side, side, 3), np.float32)
  for cells in (3, 6, 12, 24):
    blots = rng.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
    pixels += np.asarray(Image.fromarray(blots).resize((side, side))) / 4
  return Image.fromarray(pixels.astype(np.uint8))


def encoded(image, quality):
  file = io.BytesIO()
  image.save(file, 'JPEG', quality=quality)
  return Image.open(file)


def crop(image):
  side = image.width
  return image.crop((side * 0.05, side * 0.05, side * 0.95, side * 0.95))


COPIES = {
  'exact': lambda image: image,
  're-encoded': lambda image: encoded(image, 60),
  'crop': lambda image: encoded(crop(image), 90),
  'mirrored': lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
  'mirrored crop': lambda image: crop(
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
  ),
  'brightened': lambda image: image.point(lambda x: min(255, round(1.15 * x))),
  'larger': lambda image: image.resize((150, 130)),
}
