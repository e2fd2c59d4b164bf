"""Inputs and predictions of masked patch prediction as a picture."""

from jaxtyping import Float, UInt8
import numpy as np
from PIL import Image, ImageDraw

from vit_jax.models import patch_predictor
from vit_jax.training import patch_targets

COLUMNS = ('original', 'corrupted', 'predicted')
_SIDE_PX = 112  # Minimum height of an image.
_GAP_PX = 4
_HEADING_PX = 14


def draw(
  images: Float[np.ndarray, 'b h w 3'],
  predicted: Float[np.ndarray, 'b m p q 3'],
  corruption: patch_predictor.Corruption,
  grid: tuple[int, int],
) -> UInt8[np.ndarray, 'y x 3']:
  """Draws one row per image: original, corrupted, predicted.

  In the second column, masked patches are grey and replaced patches show their
  replacements. In the third, corrupted patches show the predicted colours.

  Args:
    images: in [-1, 1].
    predicted: predicted pixels of the corrupted patches.
    corruption: corruption of the images, on the host.
    grid: rows and columns of patches.
  """
  patches = np.asarray(patch_targets.cut(images, grid))
  kind = corruption.kind[..., None, None, None]
  donor = corruption.donor[..., None, None, None]
  corrupted = np.select(
    [kind == patch_predictor.MASKED, kind == patch_predictor.REPLACED],
    [np.zeros_like(patches), np.take_along_axis(patches, donor, axis=1)],
    patches,
  )
  restored = patches.copy()
  positions = corruption.positions[..., None, None, None]
  np.put_along_axis(restored, positions, predicted, axis=1)
  columns = [
    patch_targets.join(p, grid) for p in (patches, corrupted, restored)
  ]
  return _sheet(np.stack(columns, axis=1))


def _sheet(cells: Float[np.ndarray, 'b m h w 3']) -> UInt8[np.ndarray, 'y x 3']:
  """Arranges images in [-1, 1] in rows of m, enlarged without smoothing."""
  factor = -(-_SIDE_PX // cells.shape[2])
  cells = cells.repeat(factor, axis=2).repeat(factor, axis=3)
  pixels = np.clip(np.round((cells + 1) * 127.5), 0, 255).astype(np.uint8)
  b, m, h, w, _ = pixels.shape
  high, wide = h + _GAP_PX, w + _GAP_PX
  sheet = np.full((_HEADING_PX + b * high, m * wide, 3), 255, np.uint8)
  for row in range(b):
    for column in range(m):
      top, left = _HEADING_PX + row * high, column * wide
      sheet[top : top + h, left : left + w] = pixels[row, column]
  drawn = Image.fromarray(sheet)
  pen = ImageDraw.Draw(drawn)
  for column, heading in enumerate(COLUMNS):
    pen.text((column * wide + 2, 0), heading, fill='black')
  return np.asarray(drawn)
