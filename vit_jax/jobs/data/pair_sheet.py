"""A sheet of image pairs with captions, for a person to judge."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

_SIDE_PX = 128
_CAPTION_PX = 28
_GAP_PX = 6
_COLUMNS = 6


def draw(
  pairs: Sequence[tuple[np.ndarray, np.ndarray, Sequence[str]]],
) -> Image.Image:
  """Draws pairs side by side, row after row.

  Args:
    pairs: two images (h, w, 3) uint8 of any size, and lines to write below.
  """
  columns = min(_COLUMNS, len(pairs))
  rows = -(-len(pairs) // columns)
  cell = (2 * _SIDE_PX + _GAP_PX, _SIDE_PX + _CAPTION_PX)
  sheet = Image.new('RGB', (columns * cell[0], rows * cell[1]), 'white')
  pen = ImageDraw.Draw(sheet)
  for number, (*images, lines) in enumerate(pairs):
    left, top = number % columns * cell[0], number // columns * cell[1]
    for image in images:
      shown = Image.fromarray(image).resize((_SIDE_PX, _SIDE_PX))
      sheet.paste(shown, (left, top))
      left += _SIDE_PX
    left -= 2 * _SIDE_PX
    for i, line in enumerate(lines):
      pen.text((left + 2, top + _SIDE_PX + 1 + 12 * i), line, fill='black')
  return sheet
