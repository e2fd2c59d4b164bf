"""Weights for RGB in models of gray images and of images with alpha."""

import numpy as np
import pytest

from vit_jax import checkpoints
from vit_jax.checkpoints import input_channels, normalization
from vit_jax.models import hybrid_stem, resnet
import weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def adapted(params, channels):
  model = weights.tiny(channels=channels)
  params, report = checkpoints.adapt(
    params, model, weights.IMAGE_SIZE, head='keep'
  )
  assert report.names('adapted') == ['embedding/kernel']
  assert '39 loaded, 1 adapted.' in str(report)
  return model, params


def test_images_without_colour_or_alpha_give_the_same_logits():
  rgb = weights.tiny()
  params = weights.random_params(rgb)
  params = normalization.fold(params, MEAN, STD)
  images = weights.random_images()
  alpha = weights.random_images(seed=1)[..., :1]
  expected = weights.logits_of(rgb, params, images)
  with_alpha = np.concatenate([images, alpha], axis=-1)
  found = weights.logits_of(*adapted(params, 4), with_alpha)
  np.testing.assert_allclose(found, expected, atol=1e-5)

  gray = images[..., :1]
  copies = gray.repeat(3, axis=-1)
  expected = weights.logits_of(rgb, params, copies)
  model, of_gray = adapted(params, 1)
  found = weights.logits_of(model, of_gray, gray)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  found = weights.logits_of(*adapted(of_gray, 3), copies)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  with pytest.raises(ValueError, match='of shape .b, h, w, 1., got'):
    weights.logits_of(model, of_gray, copies)


@pytest.mark.parametrize('stem', [hybrid_stem, resnet])
def test_standardized_filters_keep_their_pattern(stem):
  kernel = np.random.default_rng(0).normal(0.1, 1, (7, 7, 3, 5)).astype('f4')

  def adapt(kernel, channels):
    weights = {'conv_root/kernel': kernel}
    (result,) = input_channels.adapt(weights, channels).values()
    return result

  old = stem.standardize(kernel)
  new = stem.standardize(adapt(kernel, 4))
  np.testing.assert_allclose(new[..., 3, :], 0, atol=1e-6)
  np.testing.assert_allclose(new[..., :3, :], (4 / 3) ** 0.5 * old, atol=1e-4)
  gray = stem.standardize(adapt(kernel, 1))
  of_gray = np.sum(old, axis=2, keepdims=True)  # Its response to gray.
  np.testing.assert_allclose(gray, of_gray / of_gray.std((0, 1, 2)), atol=1e-4)
  colour = stem.standardize(adapt(adapt(kernel, 1), 3))
  np.testing.assert_allclose(colour, gray.repeat(3, axis=2), atol=1e-4)


def test_alpha_is_never_removed():
  params = weights.random_params(weights.tiny(channels=4))
  with pytest.raises(ValueError, match='of 4 channels, the model for 3.*to 3'):
    checkpoints.adapt(params, weights.tiny(), weights.IMAGE_SIZE)


def test_normalization_is_for_the_channels_of_the_weights():
  params = weights.random_params(weights.tiny(channels=1))
  images = weights.random_images()[..., :1]
  model = weights.tiny(channels=1)
  folded = normalization.fold(params, (0.3,), (0.2,))
  np.testing.assert_allclose(
    weights.logits_of(model, folded, images),
    weights.logits_of(model, params, ((images + 1) / 2 - 0.3) / 0.2),
    rtol=1e-4,
  )
  with pytest.raises(ValueError, match='1 channels, but .* recorded for 3'):
    normalization.fold(params, MEAN, STD)
