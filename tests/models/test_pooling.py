"""Poolings and prefixes against formulas in NumPy."""

import functools

import jax
import numpy as np
import pytest

from vit_jax.checkpoints.formats import official
from vit_jax.models import pooling, stacking
import weights

IMAGES = weights.random_images()  # Two rows and three columns of patches.
PREFIX = {'class_token': True, 'registers': 2}


def apply(params, **options):
  model = weights.tiny(**options)
  return jax.jit(lambda p: model.apply({'params': p}, IMAGES))(params)


def norm(x, p):
  mean, std = x.mean(-1, keepdims=True), np.sqrt(x.var(-1) + 1e-6)[..., None]
  return (x - mean) / std * p['scale'] + p['bias']


def dense(x, p):
  return x @ p['kernel'] + p['bias']


def gelu(x):
  return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention_pooling(x, p):
  """Section 3.3 of arXiv 2106.04560, one head at a time."""
  attention = p['MultiHeadDotProductAttention_0']
  query, key, value, out = (
    attention[name] for name in ('query', 'key', 'value', 'out')
  )
  pooled = out['bias']
  for h in range(3):
    q = p['probe'][0, 0] @ query['kernel'][:, h] + query['bias'][h]
    k = x @ key['kernel'][:, h] + key['bias'][h]
    v = x @ value['kernel'][:, h] + value['bias'][h]
    terms = np.exp(k @ q / np.sqrt(len(q)))
    shares = terms / terms.sum(axis=1, keepdims=True)
    pooled = pooled + (shares[..., None] * v).sum(axis=1) @ out['kernel'][h]
  mlp = p['MlpBlock_0']
  hidden = gelu(dense(norm(pooled, p['LayerNorm_0']), mlp['Dense_0']))
  return pooled + dense(hidden, mlp['Dense_1'])


@pytest.mark.parametrize(
  ('pool', 'prefix'),
  [('map', {}), *((pool, PREFIX) for pool in pooling.POOLS)],
)
def test_pooled_features(pool, prefix):
  options = {'pool': pool, 'depth': 1, **prefix}
  model = weights.tiny(**options)
  params = weights.random_params(model)
  logits, features = apply(params, **options)
  encoded = np.asarray(features['encoded'])
  first = len(model.prefix)
  assert first == (3 if prefix else 0)
  assert encoded.shape == (2, first + 6, 12)
  expected = {
    'token': lambda: encoded[:, 0],
    'gap': lambda: encoded[:, first:].mean(axis=1),
    'gap_norm': lambda: norm(encoded[:, first:].mean(1), params['fc_norm']),
    'map': lambda: attention_pooling(encoded[:, first:], params['MAPHead_0']),
  }[pool]()
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  close(features['pooled'], expected)
  close(logits, dense(expected, params['head']))
  assert ('encoder_norm' in params['Transformer']) == (pool != 'gap_norm')
  if pool == 'gap_norm':  # The encoder ends without its norm.
    params['Transformer']['encoder_norm'] = p = params.pop('fc_norm')
    _, after = apply(params, **options | {'pool': 'gap'})
    close(after['encoded'], norm(encoded, p))


def tokens_of(model, params):
  """Returns the input of the first block."""
  apply = functools.partial(model.apply, mutable='intermediates')
  _, sown = apply({'params': params}, IMAGES)
  (tokens,) = sown['intermediates']['Transformer']['tokens']
  return np.asarray(tokens)


@pytest.mark.parametrize('kind', ['1d', '2d', 'sincos2d', 'none'])
def test_registers_have_no_positions(kind):
  model = weights.tiny(positions=kind, registers=2).clone(depth=0)
  params = weights.random_params(model)
  tokens = tokens_of(model, params)
  registers = params.pop('registers')
  assert registers.shape == (1, 2, 12)
  np.testing.assert_array_equal(tokens[:, 1:3], np.repeat(registers, 2, 0))
  others = tokens_of(weights.tiny(positions=kind).clone(depth=0), params)
  np.testing.assert_array_equal(np.delete(tokens, [1, 2], axis=1), others)


def test_relative_positions_leave_out_registers():
  def attention(kind):
    model = weights.tiny(positions=kind, registers=2, depth=1)
    apply = functools.partial(model.apply, mutable='intermediates')
    _, sown = jax.jit(apply)({'params': params}, IMAGES)
    block = sown['intermediates']['Transformer']['encoderblock_0']
    return block['MultiHeadDotProductAttention_0']['weights'][0]

  model = weights.tiny(positions='relative', registers=2, depth=1)
  params = weights.random_params(model)
  biased, plain = attention('relative'), attention('none')
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4)
  close(biased[:, :, :3], plain[:, :, :3])
  # Patches attend to the prefix in the same proportions.
  close(*(x[..., 3:, 1:3] / x[..., 3:, :1] for x in (biased, plain)))
  assert np.abs(biased - plain)[..., 3:, 3:].max() > 0.01


def test_scan_has_the_same_result():
  options = {'pool': 'map', 'registers': 2, 'positions': 'sincos2d'}
  params = weights.random_params(weights.tiny(**options))
  expected, _ = apply(params, **options)
  found, _ = apply(stacking.stack(params), scan=True, remat='dots', **options)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('pool', ['map', 'gap_norm'])
def test_gradients_reach_all_parameters(pool):
  options = {'pool': pool, 'positions': 'sincos2d', 'dropout': 0.1, **PREFIX}
  model = weights.tiny(depth=1, **options)
  params = weights.random_params(model)

  def loss(params):
    rngs = {'dropout': jax.random.key(0)}
    variables = {'params': params}
    logits, _ = model.apply(variables, IMAGES, train=True, rngs=rngs)
    return (logits**2).sum()

  gradients = official.flatten(jax.jit(jax.grad(loss))(params))
  new = (*pooling.PARTS, 'registers')
  assert sum(n.split('/')[0] in new for n in gradients) == (
    16 if pool == 'map' else 3
  )
  for name, gradient in gradients.items():
    if not name.endswith('key/bias'):  # It moves all logits of a row alike.
      assert np.abs(gradient).max() > 1e-6, name


def test_initial_registers_are_small_and_distinct():
  model = weights.tiny(registers=2, depth=1)
  params = jax.jit(model.init)(jax.random.key(0), IMAGES)['params']
  first, second = params['registers'][0]
  assert not np.array_equal(first, second)
  assert 0 < np.abs(params['registers']).max() < 1e-5
  assert not np.any(params['cls'])


@pytest.mark.parametrize('pool', list(pooling.POOLS))
def test_pooling_is_in_float32(pool):
  model = weights.tiny(pool=pool, dtype='bfloat16', registers=1)
  (logits, features), variables = jax.eval_shape(
    model.init_with_output, jax.random.key(0), IMAGES
  )
  assert {x.dtype.name for x in jax.tree.leaves(variables)} == {'float32'}
  assert features['encoded'].dtype == features['pooled'].dtype == 'float32'
  assert logits.dtype == 'float32'


def test_invalid_prefixes():
  with pytest.raises(ValueError, match='rows and columns .* registers=2'):
    weights.tiny('Axial-ViT-Ti/16', registers=2)
  assert weights.tiny('Axial-ViT-Ti/16', pool='map').pool == 'map'
  with pytest.raises(ValueError, match='registers .* at least 0, got -1'):
    weights.tiny(registers=-1)
