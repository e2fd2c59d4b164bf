"""Targets of masked patch prediction, against values computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.training import patch_targets

MEAN, DOWNSIZED, PIXELS = (
  patch_targets.TARGETS[name] for name in ('mean_colour', 'downsized', 'pixels')
)


def from_bytes(values):
  """Scales bytes to [-1, 1] in float32, like the input pipeline."""
  return (np.asarray(values, np.float32) - 127.5) / 127.5


def test_bins_are_the_upper_three_bits_of_a_byte():
  grey = np.arange(256)
  numbers = jax.jit(patch_targets.quantize)(
    from_bytes(np.stack([grey] * 3, axis=-1))
  )
  np.testing.assert_array_equal(numbers, (grey >> 5) * (64 + 8 + 1))
  assert int(numbers[0]) == 0
  assert int(numbers[255]) == 511


def test_channels_count_64_8_and_1():
  colours = from_bytes([[255, 0, 0], [0, 255, 0], [0, 0, 255], [100, 30, 200]])
  numbers = patch_targets.quantize(colours)
  # 100 = 0b011_00100, 30 = 0b000_11110, 200 = 0b110_01000.
  np.testing.assert_array_equal(numbers, [448, 56, 7, 3 * 64 + 0 * 8 + 6])


def test_colour_is_the_centre_of_the_bin():
  numbers = jnp.arange(512)
  np.testing.assert_array_equal(
    patch_targets.quantize(patch_targets.colour(numbers)), numbers
  )
  np.testing.assert_allclose(patch_targets.colour(511), [0.875] * 3)
  np.testing.assert_allclose(patch_targets.colour(64), [-0.625, -0.875, -0.875])


def hand_made_patch():
  """Returns 8x8 pixels: red rises from left to right, green fills the top."""
  patch = np.zeros((8, 8, 3))
  patch[:, :, 0] = np.arange(8) * 32 + 16
  patch[:4, :, 1] = 255
  patch[7, 7, 2] = 200
  return patch


def test_targets_of_a_hand_made_patch():
  patches = from_bytes(hand_made_patch())[None, None]
  # Means: red (16 + 240) / 2 = 128, bin 4; green 127.5, bin 4; blue 3, bin 0.
  expected = 4 * 64 + 4 * 8
  assert MEAN.true_colours(patches).tolist() == [[[expected]]]
  assert PIXELS.true_colours(patches).tolist() == [[[expected]]]
  # Cells of 2x2 pixels: red 32, 96, 160, 224 are lower edges of bins;
  # green is 255 or 0; blue 200 / 4 in the last cell, bin 1.
  cells = jax.jit(DOWNSIZED.true_colours)(patches)[0, 0].reshape(4, 4)
  red = np.array([1, 3, 5, 7]) * 64
  np.testing.assert_array_equal(
    cells, [red + 56, red + 56, red, red + [0, 0, 0, 1]]
  )


@pytest.mark.parametrize('value', [0, 255])
def test_edges(value):
  patches = from_bytes(np.full((1, 1, 4, 4, 3), value))
  number = 0 if value == 0 else 511
  for target in (MEAN, DOWNSIZED, PIXELS):
    assert set(np.ravel(target.true_colours(patches))) == {number}


def test_cells_whose_borders_split_pixels():
  line = jnp.array([1.0, 2.0, 4.0]).reshape(1, 1, 3, 1, 1)
  line = jnp.broadcast_to(line, (1, 1, 3, 3, 1))
  # Two cells of 1.5 pixels: (1 + 2/2) / 1.5 and (2/2 + 4) / 1.5.
  down = patch_targets.downsize(line, 2)[0, 0, :, 0, 0]
  np.testing.assert_allclose(down, [2 / 1.5, 5 / 1.5], rtol=1e-6)
  # Four cells of half a pixel each.
  pair = patch_targets.downsize(line[:, :, :2, :2], 4)[0, 0, :, 0, 0]
  np.testing.assert_allclose(pair, [1, 1, 2, 2], rtol=1e-6)


def test_cut_and_join():
  images = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
  patches = patch_targets.cut(images, (2, 2))
  assert patches.shape == (2, 4, 2, 3, 3)
  np.testing.assert_array_equal(patches[1, 1], images[1, :2, 3:])
  np.testing.assert_array_equal(patches[1, 2], images[1, 2:, :3])
  np.testing.assert_array_equal(patch_targets.join(patches, (2, 2)), images)
  with pytest.raises(ValueError, match='4x6 pixels cannot be cut into 3x2'):
    patch_targets.cut(images, (3, 2))


def one_hot(numbers):
  """Returns logits that are raised at the indices `numbers` (b, m, s)."""
  raised = np.log(3.0) * jax.nn.one_hot(jnp.array(numbers), 512)
  return raised.reshape(*raised.shape[:2], -1)


def test_loss_of_classes():
  patches = from_bytes(np.zeros((1, 1, 4, 4, 3)))
  # A class whose logit is raised by log 3 has probability 3 / 514.
  loss = MEAN.losses(one_hot([[[0]]]), patches)
  np.testing.assert_allclose(loss, [[np.log(514 / 3)]], rtol=1e-6)
  wrong = MEAN.losses(one_hot([[[1]]]), patches)
  np.testing.assert_allclose(wrong, [[np.log(514)]], rtol=1e-6)
  # A quarter of 16 colours right: the mean of their losses.
  numbers = [[[0] * 4 + [1] * 12]]
  loss = DOWNSIZED.losses(one_hot(numbers), patches)
  np.testing.assert_allclose(loss, [[np.log(514) - np.log(3) / 4]], rtol=1e-6)
  assert DOWNSIZED.colours(one_hot(numbers)).tolist() == numbers


def test_loss_of_pixels():
  patches = np.zeros((1, 1, 2, 2, 3), np.float32)
  predictions = np.zeros((1, 1, 12), np.float32)
  predictions[0, 0, :3] = [1.0, 2.0, -1.0]
  loss = PIXELS.losses(predictions, patches)
  np.testing.assert_allclose(loss, [[6 / 12]], rtol=1e-6)
  # Means of the channels 0.25, 0.5, -0.25 lie in the bins 5, 6, 3.
  assert PIXELS.colours(predictions).tolist() == [[[5 * 64 + 6 * 8 + 3]]]


def test_number_of_outputs():
  assert MEAN.num_outputs((16, 16)) == 512
  assert DOWNSIZED.num_outputs((16, 16)) == 16 * 512
  assert PIXELS.num_outputs((16, 16)) == 768


def test_predictions_as_pixels():
  numbers = np.arange(16)[None, None] * 32
  pixels = DOWNSIZED.pixels(one_hot(numbers), (8, 4))
  assert pixels.shape == (1, 1, 8, 4, 3)
  np.testing.assert_array_equal(
    patch_targets.quantize(pixels)[0, 0],
    numbers.reshape(4, 4).repeat(2, axis=0),
  )
  assert MEAN.pixels(one_hot([[[7]]]), (3, 2)).shape == (1, 1, 3, 2, 3)
  values = np.arange(12.0).reshape(1, 1, 12)
  np.testing.assert_array_equal(
    PIXELS.pixels(values, (2, 2)), values.reshape(1, 1, 2, 2, 3)
  )
