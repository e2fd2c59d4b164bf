"""Corruption of patch embeddings (Appendix B.1.2), counted and by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.models import patch_predictor

N = 16
SMALL = {'depth': 2, 'width': 16, 'mlp_dim': 16, 'heads': 2}


def draw(rate, images=2000, seed=0):
  keys = jax.random.split(jax.random.key(seed), images)
  drawn = jax.jit(jax.vmap(lambda key: patch_predictor.draw(key, N, rate)))(
    keys
  )
  return jax.device_get(drawn)


@pytest.mark.parametrize(
  ('num_patches', 'rate', 'count'),
  [(196, 0.5, 98), (64, 0.5, 32), (196, 0.15, 29), (17, 0.1, 2), (4, 1.0, 4)],
)
def test_number_of_corrupted_patches(num_patches, rate, count):
  assert patch_predictor.num_corrupted(num_patches, rate) == count


@pytest.mark.parametrize('rate', [0.1, 0.5, 1.0])
def test_every_image_has_exactly_that_many(rate):
  drawn = draw(rate)
  count = patch_predictor.num_corrupted(N, rate)
  corrupted = drawn.kind != patch_predictor.UNTOUCHED
  assert set(corrupted.sum(axis=1)) == {count}
  for row, positions in zip(corrupted, drawn.positions, strict=True):
    np.testing.assert_array_equal(positions, np.flatnonzero(row))


def test_shares_over_many_draws():
  drawn = draw(0.5, images=20_000)
  corrupted = drawn.kind[drawn.kind != patch_predictor.UNTOUCHED]
  shares = np.bincount(corrupted, minlength=4)[1:] / corrupted.size
  # 160,000 patches: a standard deviation is 0.001 at most.
  np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.004)
  by_position = np.mean(drawn.kind != patch_predictor.UNTOUCHED, axis=0)
  np.testing.assert_allclose(by_position, 0.5, atol=0.015)


def test_donors_are_all_other_positions_alike():
  donor = draw(0.5, images=20_000).donor
  for position in range(N):
    counts = np.bincount(donor[:, position], minlength=N)
    assert counts[position] == 0
    others = np.delete(counts, position)
    np.testing.assert_allclose(others, 20_000 / (N - 1), rtol=0.15)


def test_nothing_to_corrupt_is_refused():
  with pytest.raises(ValueError, match='0.01 corrupts 0 of the 16 patches'):
    patch_predictor.num_corrupted(16, 0.01)
  with pytest.raises(ValueError, match='at least two'):
    patch_predictor.num_corrupted(1, 1.0)


def by_hand():
  """Four patches: untouched, masked, replaced by the fourth, kept."""
  return patch_predictor.Corruption(
    kind=jnp.array([[0, 1, 2, 3]]),
    donor=jnp.array([[1, 0, 3, 0]]),
    positions=jnp.array([[1, 2, 3]]),
  )


def test_corrupt_by_hand():
  patches = jnp.arange(8.0).reshape(1, 4, 2)
  donors = patches + 10
  token = jnp.array([[[-1.0, -2.0]]])
  result = jax.jit(patch_predictor.corrupt)(patches, donors, token, by_hand())
  np.testing.assert_array_equal(result[0], [[0, 1], [-1, -2], [16, 17], [6, 7]])


def predictor(name='ViT-Ti/4', outputs=3, **overrides):
  encoder = models.create(name, num_classes=0, **SMALL | overrides)
  return patch_predictor.MaskedPatchPredictor(encoder, outputs)


IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype('float32')


def init(model, images=IMAGES):
  params = jax.jit(model.init)(jax.random.key(0), images)['params']
  normal = jax.random.normal(jax.random.key(1), params['mask_token'].shape)
  kernel = params['patch_head']['kernel']
  return params | {
    'mask_token': normal,
    'patch_head': {
      'kernel': jax.random.normal(jax.random.key(2), kernel.shape),
      'bias': jnp.arange(kernel.shape[1], dtype=jnp.float32),
    },
  }


def both(corruption):
  return jax.tree.map(lambda x: jnp.concatenate([x, x]), corruption)


def test_parameters_are_the_transformers_and_two_more():
  model = predictor()
  params = jax.eval_shape(model.init, jax.random.key(0), IMAGES)['params']
  encoder = jax.eval_shape(model.encoder.init, jax.random.key(0), IMAGES)
  encoder = encoder['params']
  assert params.keys() - encoder.keys() == {'mask_token', 'patch_head'}
  assert encoder.keys() <= params.keys()
  jax.tree.map(
    lambda a, b: np.testing.assert_equal(a.shape, b.shape),
    {name: params[name] for name in encoder},
    encoder,
  )
  assert params['mask_token'].shape == (1, 1, 16)
  assert params['patch_head']['kernel'].shape == (16, 3)


@pytest.mark.parametrize('pool', ['token', 'gap'])
def test_without_corruption_all_tokens_are_the_encoders(pool):
  model = predictor(pool=pool)
  params = init(model)
  predictions = jax.jit(model.apply)({'params': params}, IMAGES)
  _, features = model.encoder.apply({'params': params}, IMAGES)
  head = params['patch_head']
  tokens = features['encoded'][:, -4:]  # The class token comes first.
  np.testing.assert_allclose(
    predictions, tokens @ head['kernel'] + head['bias'], rtol=1e-4, atol=1e-5
  )


def encoder_input(model, params, corruption, train):
  """Returns the input of the encoder: class token and patches."""
  seen = []

  def intercept(call, args, kwargs, context):
    if context.module.name == 'posembed_input':
      seen.append(args[0])
    return call(*args, **kwargs)

  with nn.intercept_methods(intercept):
    model.apply({'params': params}, IMAGES, corruption, train=train)
  return seen[0]


@pytest.mark.parametrize('train', [False, True])
def test_corruption_comes_before_class_token_and_positions(train):
  model = predictor()
  params = init(model)
  params['cls'] += 5.0
  _, features = model.encoder.apply({'params': params}, IMAGES)
  patches = features['patches']
  tokens = encoder_input(model, params, both(by_hand()), train)
  np.testing.assert_array_equal(tokens[:, 0], np.full((2, 16), 5.0))
  np.testing.assert_array_equal(tokens[:, 1], patches[:, 0])
  token = np.broadcast_to(params['mask_token'][:, 0], (2, 16))
  np.testing.assert_array_equal(tokens[:, 2], token)
  # In training, the other image of this batch of two gives the patch.
  donors = patches[::-1] if train else patches
  np.testing.assert_array_equal(tokens[:, 3], donors[:, 3])
  np.testing.assert_array_equal(tokens[:, 4], patches[:, 3])


def test_masked_pixels_are_not_seen():
  model = predictor()
  params = init(model)
  corruption = both(by_hand())
  other = IMAGES.copy()
  other[:, :4, 4:] *= -1  # The masked patch.
  other[:, 4:, :4] *= -1  # The replaced one.
  apply = jax.jit(model.apply)
  np.testing.assert_array_equal(
    apply({'params': params}, IMAGES, corruption),
    apply({'params': params}, other, corruption),
  )
  other[:, :4, :4] *= -1
  changed = apply({'params': params}, other, corruption)
  assert not np.allclose(changed, apply({'params': params}, IMAGES, corruption))


def test_hybrids_have_patches_too():
  model = predictor(
    'R50+ViT-B/16', stage_depths=(1, 1), width_factor=0.5, patch_size=1
  )
  images = np.random.default_rng(1).uniform(-1, 1, (2, 16, 16, 3))
  params = init(model, images.astype('float32'))
  assert 'conv_root' in params
  predictions = model.apply(
    {'params': params}, images.astype('float32'), both(by_hand())
  )
  assert predictions.shape == (2, 3, 3)
