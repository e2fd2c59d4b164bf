"""Attention rollout by hand."""

import numpy as np
import pytest

from vit_jax.inspection import rollout


def heads(*matrices):
  """Returns the weights of one image and several heads."""
  return np.array([matrices], np.float32)


def test_rollout_of_identity_attention_is_the_identity():
  layer = heads(np.eye(5), np.eye(5))
  (found,) = rollout.rollout([layer] * 4)
  np.testing.assert_array_equal(found, np.eye(5))


def test_rollout_through_two_layers():
  # Two heads whose mean is [[1/2, 1/2], [0, 1]], and half the identity.
  first = heads([[1, 0], [0, 1]], [[0, 1], [0, 1]])
  a = np.array([[0.75, 0.25], [0, 1]])
  # One head that swaps the tokens.
  second = heads([[0, 1], [1, 0]])
  b = np.array([[0.5, 0.5], [0.5, 0.5]])
  (found,) = rollout.rollout(iter([first, second]))
  np.testing.assert_allclose(found, b @ a, rtol=1e-6)
  assert np.abs(b @ a - a @ b).max() > 0.1
  (found,) = rollout.rollout([first])
  np.testing.assert_allclose(found, a, rtol=1e-6)


def test_rows_are_normalized():
  (found,) = rollout.rollout([heads([[2, 1], [0, 0]])])
  np.testing.assert_allclose(found, [[0.75, 0.25], [0, 1]], rtol=1e-6)


def test_images_do_not_mix():
  rng = np.random.default_rng(0)
  layers = [rng.dirichlet(np.ones(4), (3, 2, 4)) for _ in range(3)]
  together = rollout.rollout(layers)
  assert together.shape == (3, 4, 4)
  np.testing.assert_allclose(np.sum(together, axis=-1), 1, rtol=1e-5)
  for i in range(3):
    (single,) = rollout.rollout([layer[i : i + 1] for layer in layers])
    np.testing.assert_allclose(together[i], single, rtol=1e-6)


def test_at_least_one_layer_is_needed():
  with pytest.raises(ValueError, match='at least one layer'):
    rollout.rollout([])


def test_mask_is_brightest_where_the_share_is_largest():
  shares = np.zeros((6, 4))
  shares[1, 3] = 0.5
  found = rollout.mask(shares, (60, 80))
  assert found.shape == (60, 80)
  assert found.min() == 0
  assert found.max() == 1
  row, column = np.unravel_index(found.argmax(), found.shape)
  # Inside the patch, up to effects of the border.
  assert 10 <= row < 20
  assert column >= 60


def test_mask_of_equal_shares_is_finite():
  assert np.isfinite(rollout.mask(np.ones((2, 3)), (4, 6))).all()


def test_heat_map_of_a_gray_image_by_hand():
  shares = np.arange(64.0).reshape(8, 8) ** 2
  pixels = np.full((16, 16, 3), 0.5)
  found = rollout.heat_map(pixels, shares)
  # The ends of Matplotlib's colormap `plasma`: #0d0887 and #f0f921.
  ends = np.array([[0x0D, 0x08, 0x87], [0xF0, 0xF9, 0x21]]) / 255
  expected = 0.4 * 0.5 + 0.6 * ends
  np.testing.assert_allclose(found[[0, -1], [0, -1]], expected, atol=2e-3)
  # How large the largest share is does not matter.
  shares[7, 7] *= 100
  np.testing.assert_allclose(rollout.heat_map(pixels, shares), found)
