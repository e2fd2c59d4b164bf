"""Attention by layer against the attention that the whole model sows."""

import numpy as np
import pytest

from vit_jax import models
from vit_jax.inspection import attention_distance, attention_maps, rollout
from vit_jax.models import vit
import weights

HYBRID = {'stage_depths': (1, 1), 'width_factor': 0.5, 'patch_size': 1}


def sown(model, params, images):
  """Returns the weights of all layers, (b, l, heads, n, n)."""
  _, found = model.apply({'params': params}, images, mutable='intermediates')
  blocks = found['intermediates']['Transformer']
  return np.stack(
    [
      blocks[f'encoderblock_{i}']['MultiHeadDotProductAttention_0']['weights'][
        0
      ]
      for i in range(model.depth)
    ],
    axis=1,
  )


def build(name, pool, **options):
  hybrid = HYBRID if '+' in name else {}
  model = weights.tiny(name, pool=pool, **hybrid, **options)
  params = weights.random_params(model)
  return model, params, weights.random_images()


@pytest.mark.parametrize(
  ('name', 'pool', 'options'),
  [
    ('ViT-Ti/16', 'token', {}),
    ('ViT-Ti/16', 'gap', {}),
    ('R50+ViT-B/32', 'token', {}),
    ('ViT-Ti/16', 'token', {'positions': 'relative'}),
    ('ViT-Ti/16', 'token', {'positions_at': 'every_layer_shared'}),
    (
      'ViT-Ti/16',
      'gap',
      {'positions': '2d', 'positions_at': 'every_layer'},
    ),
  ],
)
def test_weights_are_those_of_the_model(name, pool, options):
  model, params, images = build(name, pool, **options)
  expected = sown(model, params, images)
  found = list(attention_maps.by_layer(model, params, images))
  assert len(found) == 2
  for i, layer in enumerate(found):
    np.testing.assert_allclose(layer, expected[:, i], rtol=1e-4, atol=1e-6)
  assert np.ptp(expected) > 0.05


def test_layers_are_computed_lazily():
  model, params, images = build('ViT-Ti/16', 'token')
  del params['Transformer']['encoderblock_1']
  layers = attention_maps.by_layer(model, params, images)
  next(layers)
  with pytest.raises(KeyError, match='encoderblock_1'):
    next(layers)


def test_models_without_attention_are_refused():
  model = models.create('R50x1', num_classes=0)
  with pytest.raises(ValueError, match='ResNet has no attention'):
    next(attention_maps.by_layer(model, {}, np.zeros((1, 8, 8, 3), 'f4')))
  with pytest.raises(ValueError, match='Axial-ViT .* along rows and columns'):
    attention_maps.check_has_attention(weights.tiny('Axial-ViT-Ti/16'))


def test_of_representation():
  matrix = np.array([[[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1]]])
  first = np.array([[1.0, 0, 0]])
  token = attention_maps.of_representation(matrix, first, 1)
  np.testing.assert_allclose(token, [[0.2, 0.7]])
  shares = np.array([[0.5, 0.25, 0.25]])
  mean = attention_maps.of_representation(matrix, shares, 0)
  np.testing.assert_allclose(mean, [[0.325, 0.2, 0.475]], rtol=1e-6)


def probe_weights(model, params, images):
  """Returns the mean over heads of the attention of a pooling's probe.

  The probe only attends to patches.
  """
  _, features = model.apply({'params': params}, images)
  p = params['MAPHead_0']
  p, probe = p['MultiHeadDotProductAttention_0'], p['probe'][0, 0]
  query = np.einsum('d,dhs->hs', probe, p['query']['kernel'])
  query = query + p['query']['bias']
  keys = np.einsum('bnd,dhs->bnhs', features['encoded'], p['key']['kernel'])
  logits = np.einsum('hs,bnhs->bnh', query, keys + p['key']['bias'])
  logits[:, : len(model.prefix)] = -np.inf
  terms = np.exp(logits / np.sqrt(query.shape[-1]))
  return (terms / terms.sum(axis=1, keepdims=True)).mean(axis=-1)


@pytest.mark.parametrize(
  ('name', 'pool', 'options', 'renormalise'),
  [
    ('ViT-Ti/16', 'token', {}, False),
    ('ViT-Ti/16', 'gap', {}, True),
    # The ResNet has a stride of 8.
    ('R50+ViT-B/32', 'token', {}, True),
    ('ViT-Ti/16', 'gap_norm', {'class_token': True, 'registers': 2}, True),
    ('ViT-Ti/16', 'map', {'registers': 2}, False),
  ],
)
def test_summary_of_all_layers(name, pool, options, renormalise):
  model, params, images = build(name, pool, **options)
  token_size = (8, 8)
  assert model.token_size == token_size
  grid = (2, 3)
  assert model.grid_shape(weights.IMAGE_SIZE) == grid
  found = attention_maps.summarize(
    model, params, images, renormalise=renormalise
  )
  expected = sown(model, params, images)
  between = attention_distance.token_distances(grid, token_size)
  prefix = len(model.prefix)
  for i in range(2):
    distances = attention_distance.attention_distance(
      expected[:, i], between, num_prefix=prefix, renormalise=renormalise
    )
    np.testing.assert_allclose(found['distances'][:, i], distances, rtol=1e-3)
  rolled = rollout.rollout(expected.swapaxes(0, 1))
  if pool == 'token':
    shares = np.eye(1, 6 + prefix)
  elif pool == 'map':
    shares = probe_weights(model, params, images)
  else:
    shares = np.r_[np.zeros(prefix), np.full(6, 1 / 6)][None]
  rolled = (shares[:, :, None] * rolled).sum(axis=1)[:, prefix:]
  np.testing.assert_allclose(
    found['rollouts'], rolled.reshape(2, *grid), rtol=1e-3
  )
  maps = (shares[:, None, None, :, None] * expected).sum(axis=-2)[..., prefix:]
  np.testing.assert_allclose(
    found['maps'], maps.reshape(2, 2, 3, *grid), rtol=1e-3, atol=1e-6
  )


def test_encoder_block_has_the_options_of_the_model():
  model = models.create(
    'ViT-B/16', num_classes=0, gelu='erf', norm_eps=1e-3, dtype='bfloat16'
  )
  block = model.encoder_block((14, 14))(name='encoderblock_3')
  assert isinstance(block, vit.EncoderBlock)
  assert (block.mlp_dim, block.heads) == (3072, 12)
  assert (block.gelu, block.norm_eps, block.dtype) == ('erf', 1e-3, model.dtype)


def test_blocks_of_equal_models_are_equal():
  first, again = (
    weights.tiny(positions=kind, positions_at=place).encoder_block((2, 3))()
    for kind, place in (('2d', 'every_layer'),) * 2
  )
  assert first == again and hash(first) == hash(again)
  relative = [weights.tiny(positions='relative') for _ in range(2)]
  assert len({model.encoder_block((2, 3))() for model in relative}) == 1
