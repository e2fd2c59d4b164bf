"""Principal components of filters against NumPy's decompositions."""

import numpy as np
import pytest

from vit_jax import models
from vit_jax.inspection import filters
import weights


def random_filters(d, seed=0):
  rng = np.random.default_rng(seed)
  # Variances differ between directions.
  scales = np.arange(1, 19)
  return (rng.normal(size=(d, 18)) * scales + 5).T.reshape(2, 3, 3, d)


@pytest.mark.parametrize('d', [40, 7])  # More filters than weights, and fewer.
def test_components_equal_the_svd_of_numpy(d):
  kernel = random_filters(d)
  components, shares = filters.principal_components(kernel)
  m = min(d, 18)
  assert components.shape == (m, 2, 3, 3)
  samples = kernel.reshape(18, d)
  left, scales, _ = np.linalg.svd(samples - samples.mean(1, keepdims=True))
  flat = components.reshape(m, 18)
  # Centering leaves 6 directions for 7 filters.
  rank = min(d - 1, 18)
  cosines = np.abs(np.sum(flat[:rank].T * left[:, :rank], axis=0))
  np.testing.assert_allclose(cosines, 1, rtol=1e-9)
  np.testing.assert_allclose(flat @ flat.T, np.eye(m), atol=1e-9)
  np.testing.assert_allclose(shares, scales**2 / np.sum(scales**2), atol=1e-12)


def test_shares_equal_those_of_the_covariance():
  kernel = random_filters(40)
  _, shares = filters.principal_components(kernel)
  variances = np.linalg.eigvalsh(np.cov(kernel.reshape(18, 40)))[::-1]
  np.testing.assert_allclose(shares, variances / variances.sum(), atol=1e-12)
  assert shares.sum() == pytest.approx(1)


def test_signs_are_independent_of_the_decomposition():
  kernel = random_filters(40)
  components, _ = filters.principal_components(kernel)
  mirrored, _ = filters.principal_components(-kernel)
  np.testing.assert_allclose(components, mirrored, atol=1e-9)
  flat = components.reshape(len(components), -1)
  assert (flat.max(axis=1) == np.abs(flat).max(axis=1)).all()


def test_equal_filters_have_no_variance():
  _, shares = filters.principal_components(np.ones((2, 2, 3, 5)))
  np.testing.assert_array_equal(shares, np.zeros(5))


def test_smoothness():
  constant = np.ones((4, 4))
  stripes = np.tile([1.0, -1.0], (4, 2))  # Only columns differ.
  chequers = stripes * stripes.T
  found = filters.smoothness(np.stack([constant, stripes, chequers])[..., None])
  np.testing.assert_allclose(found, [1, 0, -1], atol=1e-12)
  noise = np.random.default_rng(0).normal(size=(1, 200, 200, 3))
  assert abs(filters.smoothness(noise)[0]) < 0.01


def test_filters_of_a_vit_are_its_patch_embedding():
  params = weights.random_params(weights.tiny())
  found = filters.rgb_filters(params)
  assert found.shape == (8, 8, 3, 12)
  np.testing.assert_array_equal(found, params['embedding']['kernel'])


@pytest.mark.parametrize('name', ['R50x1', 'R50+ViT-B/32'])
def test_filters_of_a_resnet_are_standardized(name):
  model = models.create(
    name, num_classes=0, stage_depths=(1,), width_factor=0.5
  )
  found = filters.rgb_filters(weights.random_params(model, (32, 32)))
  assert found.shape == (7, 7, 3, 32)
  flat = found.reshape(-1, 32)
  np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-5)
  np.testing.assert_allclose(flat.std(axis=0), 1, rtol=1e-4)


def test_filters_are_standardized_as_in_their_model():
  kernel = np.random.default_rng(0).normal(size=(7, 7, 3, 4), scale=1e-3)
  kernel = kernel.astype(np.float32)
  std, centered = kernel.std((0, 1, 2)), kernel - kernel.mean((0, 1, 2))
  params = {'conv_root': {'kernel': kernel}}
  np.testing.assert_allclose(
    filters.rgb_filters(params),
    centered / np.sqrt(std**2 + 1e-10),
    rtol=1e-4,
    atol=1e-6,
  )
  np.testing.assert_allclose(  # A hybrid.
    filters.rgb_filters(params | {'embedding': {}}),
    centered / (std + 1e-5),
    rtol=1e-4,
    atol=1e-6,
  )
