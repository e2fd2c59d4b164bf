"""The grid of patches."""

import pytest

from vit_jax.models import positions


@pytest.mark.parametrize(
  'image_size, patch_size, grid',
  [
    (224, 16, (14, 14)),
    ((32, 48), 8, (4, 6)),
    ((32, 48), (16, 8), (2, 6)),
    (8, (8, 2), (1, 4)),
  ],
)
def test_grid_shape(image_size, patch_size, grid):
  assert positions.grid_shape(image_size, patch_size) == grid


def test_patches_of_a_map_whose_last_positions_stand_for_fewer_pixels():
  assert positions.grid_shape((61, 100), (8, 1), stride=4) == (2, 25)


@pytest.mark.parametrize(
  'image_size, patch_size, advice',
  [
    (224, 15, '224x224 pixels .* 15x15.* use an image of 225x225'),
    ((32, 50), 8, '32x50 pixels .* 8x8.* use an image of 32x48'),
    (8, 16, '8x8 pixels .* 16x16.* use an image of 16x16'),
  ],
)
def test_a_broken_grid_is_refused(image_size, patch_size, advice):
  with pytest.raises(ValueError, match=advice):
    positions.grid_shape(image_size, patch_size)


@pytest.mark.parametrize('size', [0, (16, -1), (16, 16, 16)])
def test_what_is_no_size_is_refused(size):
  with pytest.raises(ValueError, match='one positive number or a pair'):
    positions.as_pair(size)
