"""Pixels of image files as Pillow decodes them, with all bits on request."""

import io
import re
import sys

from jaxtyping import UInt
import numpy as np
from PIL import Image, ImageOps

_PIXELS_AT_ONCE = 2**22
# Pillow's name of the layout of a TIFF file with 16-bit colours, in two parts:
# the second is the byte order.
_DEEP_COLOURS = re.compile('(RGB[AX]?;16)([LBN])')


def read(
  file: bytes, image: Image.Image, channels: int, bits: int
) -> UInt[np.ndarray, 'h w c']:
  """Returns the upright pixels of a file.

  Pillow keeps only the upper byte of 16-bit colours. It reads the lower one if
  the file is declared to have the other byte order.

  Args:
    file: content of the file.
    image: the same, opened; consumed.
    channels: 3 for RGB, 4 for RGB and alpha.
    bits: 8, or 16 for pixels of type uint16 with all bits of the file.

  Raises:
    ValueError: if the bits per channel or their layout are not supported.
  """
  layout = image.tile[0].args[0] if image.format == 'TIFF' else ''
  if bits == 8 or ';16' not in layout or image.mode.startswith('I'):
    return _read(image, channels, bits)
  with Image.open(io.BytesIO(file), formats=[image.format]) as low:
    low.tile = [_in_other_order(tile) for tile in low.tile]
    upper = _read(image, channels, bits=8).astype(np.uint16)
    return 256 * upper + _read(low, channels, bits=8)


def of_image(
  image: Image.Image, channels: int, bits: int
) -> UInt[np.ndarray, 'h w c']:
  """Returns the upright pixels of an image, which does not change.

  Same as `read`, but of 16-bit colours, only the upper 8 bits are known.

  Raises:
    ValueError: if the image is damaged, or its kind is not supported.
  """
  try:
    upright = ImageOps.exif_transpose(image)
  except Exception as error:  # Pillow raises errors of many types.
    raise ValueError(f'the PIL image cannot be read: {error}') from error
  return _pixels(upright, _has_holes(image), channels, bits)


def _read(image, channels, bits):
  """Returns the pixels; of 16-bit colours, the upper 8 bits."""
  has_holes = _has_holes(image)
  ImageOps.exif_transpose(image, in_place=True)
  return _pixels(image, has_holes, channels, bits)


def _has_holes(image):
  """Returns whether transparent pixels are black, as GIF in TensorFlow."""
  return image.format == 'GIF' and 'transparency' in image.info


def _pixels(image, has_holes, channels, bits):
  has_alpha = has_holes or channels == 4
  if image.mode in ('I', 'F'):
    raise ValueError('images with 32 bits per channel are not supported')

  def convert(part):
    if part.mode.startswith('I;16'):
      gray = np.asarray(part)[..., None]
      return gray if bits == 16 else gray // 256
    pixels = np.asarray(part.convert('RGBA' if has_alpha else 'RGB'))
    if has_holes:
      pixels = pixels * (pixels[..., 3:] > 0)
    pixels = pixels[..., :channels]
    return pixels if bits == 8 else pixels * np.uint16(257)

  width, height = image.size
  pixels = np.full((height, width, channels), 2**bits - 1, f'uint{bits}')
  rows = max(1, _PIXELS_AT_ONCE // width)  # Converting them copies them twice.
  for top in range(0, height, rows):
    bottom = min(top + rows, height)
    part = convert(image.crop((0, top, width, bottom)))
    # Gray of 16 bits is opaque.
    colours = 3 if part.shape[-1] == 1 else channels
    pixels[top:bottom, :, :colours] = part
  return pixels


def _in_other_order(tile):
  layout, *others = tile.args
  match = _DEEP_COLOURS.fullmatch(layout)
  if not match:
    raise ValueError(
      f'colours of 16 bits in the layout {layout} are not supported; convert'
      ' the file to PNG'
    )
  native = sys.byteorder[0].upper()
  other = {'L': 'B', 'B': 'L'}[match[2].replace('N', native)]
  return tile._replace(args=(match[1] + other, *others))
