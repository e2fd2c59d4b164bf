"""The picture of corrupted and predicted patches."""

import numpy as np

from vit_jax.inspection import patch_colours
from vit_jax.models import masked_patch

WHITE, BLACK, GREY = (255,) * 3, (0,) * 3, (128,) * 3


def test_original_corrupted_and_predicted_side_by_side():
  images = -np.ones((1, 4, 4, 3), np.float32)
  images[:, 2:, 2:] = 1.0
  # Not corrupted, masked, replaced by the white patch, kept.
  corruption = masked_patch.Corruption(
    kind=np.array([[0, 1, 2, 3]]),
    donor=np.array([[1, 0, 3, 0]]),
    positions=np.array([[1, 2, 3]]),
  )
  predicted = np.zeros((1, 3, 2, 2, 3), np.float32)
  predicted[:, :, :, :, 0] = 1.0  # Red for the three corrupted patches.
  sheet = patch_colours.draw(images, predicted, corruption, (2, 2))
  assert sheet.dtype == np.uint8
  height, width, _ = sheet.shape
  side = width // 3
  picture = sheet[height - side :]

  def colours(column):
    part = picture[:, column * side : (column + 1) * side]
    quarter, rest = side // 4, 3 * side // 4
    return [
      tuple(int(v) for v in part[y, x])
      for y in (quarter, rest)
      for x in (quarter, rest)
    ]

  red = (255, 128, 128)
  assert colours(0) == [BLACK, BLACK, BLACK, WHITE]
  assert colours(1) == [BLACK, GREY, WHITE, WHITE]
  assert colours(2) == [BLACK, red, red, red]
