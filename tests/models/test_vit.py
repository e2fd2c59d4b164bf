"""The Vision Transformer against the paper's equations, written in NumPy."""

import collections
import functools
import re

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.models import flops, layers, stacking, vit

# All axes have different sizes.
TINY = {
  'depth': 2,
  'width': 12,
  'mlp_dim': 20,
  'heads': 3,
  'patch_size': (4, 2),
  'num_classes': 7,
}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 8, 10, 3)).astype('f4')
FEATURES = {'patches', 'encoded', 'pooled', 'pre_logits'}


def create(**overrides):
  return models.create('ViT-Ti/16', **(TINY | overrides))


def random_params(model):
  """Random parameters, so that none keeps an initial value of 0 or 1."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)['params']
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: rng.normal(0, 0.5, x.shape).astype('f4'), shapes
  )


def norm(x, p):
  mean, std = x.mean(-1, keepdims=True), np.sqrt(x.var(-1) + 1e-6)[..., None]
  return (x - mean) / std * p['scale'] + p['bias']


def self_attention(x, p):
  def project(name):
    return np.einsum('bnd,dhs->bnhs', x, p[name]['kernel']) + p[name]['bias']

  q, k, v = project('query'), project('key'), project('value')
  scores = np.einsum('bqhs,bkhs->bhqk', q, k) / np.sqrt(q.shape[-1])
  weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
  heads = np.einsum('bhqk,bkhs->bqhs', weights, v)
  return (
    np.einsum('bqhs,hsd->bqd', heads, p['out']['kernel']) + p['out']['bias']
  )


def dense(x, p):
  return x @ p['kernel'] + p['bias']


def gelu(x):
  return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def encode(x, p, drop=lambda x, site: x):
  """Equations 2 and 3; `drop` is called at every site of Appendix B.1."""
  x = drop(x + p['posembed_input']['pos_embedding'], 'positions')
  for i in range(TINY['depth']):
    block = p[f'encoderblock_{i}']
    y = norm(x, block['LayerNorm_0'])
    y = self_attention(y, block['MultiHeadDotProductAttention_0'])
    x = x + drop(y, (i, 'attention'))
    y = norm(x, block['LayerNorm_1'])
    y = gelu(dense(y, block['MlpBlock_0']['Dense_0']))
    y = dense(drop(y, (i, 'hidden')), block['MlpBlock_0']['Dense_1'])
    x = x + drop(y, (i, 'out'))
  return norm(x, p['encoder_norm'])


@pytest.mark.parametrize('pool', ['token', 'gap'])
def test_equations_1_to_4(pool):
  model = create(pool=pool, representation_size=5)
  p = random_params(model)
  ph, pw = TINY['patch_size']
  patches = IMAGES.reshape(2, 8 // ph, ph, 10 // pw, pw, 3)
  patches = patches.swapaxes(2, 3).reshape(2, 10, ph * pw * 3)
  kernel = p['embedding']['kernel'].reshape(ph * pw * 3, -1)
  patches = patches @ kernel + p['embedding']['bias']
  tokens = patches
  if pool == 'token':
    tokens = np.concatenate([np.repeat(p['cls'], 2, 0), patches], axis=1)
  encoded = encode(tokens, p['Transformer'])
  pooled = encoded[:, 0] if pool == 'token' else encoded.mean(1)
  pre_logits = np.tanh(dense(pooled, p['pre_logits']))

  logits, features = jax.jit(model.apply)({'params': p}, IMAGES)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  close(features['patches'], patches)
  close(features['encoded'], encoded)
  close(features['pooled'], pooled)
  close(features['pre_logits'], pre_logits)
  close(logits, dense(pre_logits, p['head']))


def test_dropout_and_stochastic_depth_are_in_their_places():
  """Dropout has a key per layer; each branch has a factor per image."""
  rate = 0.5
  block = functools.partial(
    vit.EncoderBlock,
    mlp_dim=TINY['mlp_dim'],
    heads=TINY['heads'],
    dropout=rate,
  )
  encoder = vit.Encoder(
    depth=TINY['depth'], block=block, stochastic_depth=rate, **block.keywords
  )
  x = np.random.default_rng(2).normal(size=(2, 5, 12)).astype('f4')
  p = random_params(create(dropout=rate))['Transformer']
  p['posembed_input']['pos_embedding'] = np.ones((1, 5, 12), 'f4')
  rngs = {'dropout': jax.random.key(5)}
  bound = encoder.bind({'params': p}, rngs=rngs)
  base_key, key = bound.make_rng('dropout'), bound.make_rng('dropout')
  factors = np.asarray(layers.branch_factors(key, rate, (2, 2, 2)))
  assert (factors[0] == 1).all()
  assert factors[1].tolist() == [[0, 2], [2, 0]]
  branches = {
    (i, place): factors[i, j]
    for i in range(TINY['depth'])
    for j, place in enumerate(('attention', 'out'))
  }

  def drop(x, site):
    if site == 'positions':
      key = jax.random.fold_in(base_key, TINY['depth'])
    else:
      layer, place = site
      key = jax.random.fold_in(base_key, layer)
      attention_key, mlp_key = jax.random.split(key)
      hidden_key, out_key = jax.random.split(mlp_key)
      key = {'attention': attention_key, 'hidden': hidden_key, 'out': out_key}
      key = key[place]
    x = x * np.asarray(jax.random.bernoulli(key, 1 - rate, x.shape)) / rate
    if site in branches:
      x = x * branches[site][:, None, None]
    return x

  trained, _ = jax.jit(functools.partial(encoder.apply, train=True))(
    {'params': p}, x, rngs=rngs
  )
  np.testing.assert_allclose(trained, encode(x, p, drop), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  'train, rates, sites',
  [
    (True, {'dropout': 0.1}, 1 + 3 * 2),
    (True, {'stochastic_depth': 0.1}, 1),
    (True, {'dropout': 0.1, 'stochastic_depth': 0.1}, 1 + 3 * 2 + 1),
    (False, {'dropout': 0.1, 'stochastic_depth': 0.1}, 0),
  ],
)
def test_the_model_draws_one_mask_for_each_site(train, rates, sites):
  model = create(representation_size=5, **rates)
  jaxpr = jax.make_jaxpr(functools.partial(model.apply, train=train))(
    {'params': random_params(model)},
    IMAGES,
    rngs={'dropout': jax.random.key(0)},
  )
  assert str(jaxpr).count('name=_bernoulli') == sites


def loss_of(model):
  """Returns a function of parameters whose gradient needs every activation."""

  def loss(params):
    logits, features = model.apply(
      {'params': params},
      IMAGES,
      train=True,
      rngs={'dropout': jax.random.key(0)},
    )
    return jnp.sum(logits**2) + jnp.sum(features['encoded'] ** 2)

  return loss


@pytest.mark.parametrize('positions', ['1d', 'relative'])
@pytest.mark.parametrize('pool', ['token', 'gap'])
def test_tokens_that_pooling_does_not_use_change_nothing(pool, positions):
  """The last block leaves them out, unless they are returned."""
  model = create(pool=pool, positions=positions, stochastic_depth=0.5)
  params = random_params(model)

  def loss(params, tokens):
    logits, features = model.apply(
      {'params': params},
      IMAGES,
      train=True,
      tokens=tokens,
      rngs={'dropout': jax.random.key(0)},
    )
    return jnp.sum(logits**2), features

  value_and_grad = jax.jit(
    jax.value_and_grad(loss, has_aux=True), static_argnames='tokens'
  )
  (value, features), grads = value_and_grad(params, tokens=False)
  (wanted, all_features), all_grads = value_and_grad(params, tokens=True)
  assert features.keys() == FEATURES - {'encoded'}
  assert all_features.keys() == FEATURES
  np.testing.assert_allclose(value, wanted, rtol=1e-5)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    (features, grads),
    ({name: all_features[name] for name in features}, all_grads),
  )


# MLP, projection and attention of 10 of 11 tokens in the last block, for two
# images.
OF_UNUSED_TOKENS = 2 * 2 * 10 * (2 * 12 * 20 + 12 * 12 + 2 * 11 * 12)


@pytest.mark.parametrize(
  'options, saved',
  [
    ({}, OF_UNUSED_TOKENS),
    ({'positions': 'relative'}, OF_UNUSED_TOKENS),
    ({'pool': 'gap'}, 0),
    ({'scan': True}, 0),
    ({'dropout': 0.1}, 0),
  ],
)
def test_operations_saved_without_tokens(options, saved):
  model = create(**options)
  params = random_params(create(**options | {'scan': False}))
  params = stacking.stack(params) if model.scan else params

  def apply(tokens):
    apply = functools.partial(
      model.apply,
      train=True,
      tokens=tokens,
      rngs={'dropout': jax.random.key(0)},
    )
    return flops.count(apply, {'params': params}, IMAGES)

  assert apply(True) - apply(False) == saved


@functools.cache
def loss_and_gradients_with_dropout():
  model = create(dropout=0.3, stochastic_depth=0.5)
  return jax.jit(jax.value_and_grad(loss_of(model)))(random_params(model))


@pytest.mark.parametrize(
  'scan, remat', [(True, 'none'), (False, 'full'), (True, 'dots')]
)
def test_scan_and_remat_change_neither_dropout_nor_gradients(scan, remat):
  loss, grads = loss_and_gradients_with_dropout()
  model = create(dropout=0.3, stochastic_depth=0.5, scan=scan, remat=remat)
  params = random_params(create())
  if scan:
    params = stacking.stack(params)
    assert jax.eval_shape(model.init, jax.random.key(0), IMAGES)[
      'params'
    ] == jax.eval_shape(lambda: params)
  value_and_grad = jax.value_and_grad(loss_of(model))
  again, other_grads = jax.jit(value_and_grad)(params)
  np.testing.assert_allclose(again, loss, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    stacking.unstack(other_grads),
    grads,
  )


# A block has eight products, six in dense layers and two in attention; no
# gradient needs the value of the last one.
@pytest.mark.parametrize(
  'remat, again', [('none', 0), ('dots', 2), ('full', 7)]
)
def test_remat_computes_products_again(remat, again):
  loss = loss_of(create(remat=remat, platform='tpu'))
  jaxpr = jax.make_jaxpr(jax.grad(loss))(random_params(create()))
  # Backwards there are two for each; the head has one more.
  expected = TINY['depth'] * (3 * 8 + again) + 3
  assert str(jaxpr).count('dot_general') == expected


@pytest.mark.parametrize('positions, scan', [('1d', False), ('relative', True)])
def test_the_form_for_a_cpu_computes_the_same(positions, scan):
  size = {'dropout': 0.3, 'positions': positions}
  params = random_params(create(**size))
  if scan:
    params = stacking.stack(params)
  results = []
  for platform in ('cpu', 'tpu'):
    model = create(**size, scan=scan, platform=platform)
    init = jax.eval_shape(model.init, jax.random.key(0), IMAGES)['params']
    assert jax.tree.map(jnp.shape, init) == jax.tree.map(jnp.shape, params)
    results.append(jax.jit(jax.value_and_grad(loss_of(model)))(params))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    *results,
  )


def test_initial_parameters_do_not_depend_on_the_platform():
  cpu, tpu = (
    create(platform=platform).init(jax.random.key(3), IMAGES)
    for platform in ('cpu', 'tpu')
  )
  jax.tree.map(np.testing.assert_array_equal, cpu, tpu)


def test_arrays_that_a_scan_keeps_for_the_backward_pass():
  model = create(dtype='bfloat16', scan=True, platform='tpu')
  params = stacking.stack(random_params(create()))
  jaxpr = jax.make_jaxpr(jax.grad(loss_of(model)))(params)
  forward, backward = (
    collections.Counter(f'{x.aval.dtype}{x.aval.shape}' for x in eqn.outvars)
    for eqn in jaxpr.eqns
    if eqn.primitive.name == 'scan'
  )
  assert forward == {
    'bfloat16(2, 11, 12)': 1,  # The result.
    # The inputs of both norms, and their results.
    'bfloat16(2, 2, 11, 12)': 4,
    'bfloat16(2, 2, 3, 11, 4)': 3,  # Queries, keys and values.
    'bfloat16(2, 2, 3, 11, 11)': 1,  # Attention weights.
    'bfloat16(2, 2, 11, 3, 4)': 1,  # Results of attention.
    'bfloat16(2, 2, 11, 20)': 2,  # Before and after the GELU.
  }
  # Gradients of kernels.
  assert {x for x in backward if x.startswith('bfloat16(2, ')} == {
    'bfloat16(2, 11, 12)',  # Of the input.
    'bfloat16(2, 12, 3, 4)',
    'bfloat16(2, 3, 4, 12)',
    'bfloat16(2, 12, 20)',
    'bfloat16(2, 20, 12)',
  }


def test_logits_and_both_sides_of_a_block_are_constrained():
  params, shapes = random_params(create()), []

  def constrain(x):
    shapes.append(x.shape)
    return x

  model = create(constrain=constrain)
  jax.eval_shape(model.apply, {'params': params}, IMAGES)
  assert shapes == [(2, 11, 12)] * (1 + 2 * TINY['depth']) + [(2, 7)]


def test_weights_are_sown_on_request_only():
  module = vit.SelfAttention(heads=2, mlp_dim=20, dtype=jnp.bfloat16)
  x = jax.random.normal(jax.random.key(0), (3, 5, 8))
  variables = jax.jit(module.init)(jax.random.key(1), x)
  assert set(variables) == {'params'}
  apply = functools.partial(module.apply, mutable='intermediates')
  _, sown = jax.jit(apply)(variables, x)
  (weights,) = sown['intermediates']['weights']
  assert weights.shape == (3, 2, 5, 5)
  assert weights.dtype == jnp.float32
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
  assert np.ptp(weights) > 0.01


@pytest.mark.parametrize(
  'name, count',
  [
    ('ViT-Ti/16', 5_717_416),
    ('ViT-S/16', 22_050_664),
    ('ViT-B/32', 88_224_232),
    ('ViT-B/16', 86_567_656),
    ('ViT-L/32', 306_535_400),
    ('ViT-L/16', 304_326_632),
    ('ViT-H/14', 632_045_800),
  ],
)
def test_parameter_counts_at_224(name, count):
  model = models.create(name, num_classes=1000)
  images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), images)
  assert sum(x.size for x in jax.tree.leaves(shapes)) == count


def test_names_and_shapes_are_the_official_ones():
  model = create(depth=1, representation_size='width')
  shapes = {
    name: value.shape
    for name, value in traverse_util.flatten_dict(
      random_params(model), sep='/'
    ).items()
  }
  block = 'Transformer/encoderblock_0'
  attention = f'{block}/MultiHeadDotProductAttention_0'
  expected = {
    'cls': (1, 1, 12),
    'embedding/kernel': (4, 2, 3, 12),
    'embedding/bias': (12,),
    'Transformer/posembed_input/pos_embedding': (1, 11, 12),
    f'{attention}/out/kernel': (3, 4, 12),
    f'{attention}/out/bias': (12,),
    f'{block}/MlpBlock_0/Dense_0/kernel': (12, 20),
    f'{block}/MlpBlock_0/Dense_0/bias': (20,),
    f'{block}/MlpBlock_0/Dense_1/kernel': (20, 12),
    f'{block}/MlpBlock_0/Dense_1/bias': (12,),
    'pre_logits/kernel': (12, 12),
    'pre_logits/bias': (12,),
    'head/kernel': (12, 7),
    'head/bias': (7,),
  }
  for name in ('query', 'key', 'value'):
    expected[f'{attention}/{name}/kernel'] = (12, 3, 4)
    expected[f'{attention}/{name}/bias'] = (3, 4)
  norms = (
    f'{block}/LayerNorm_0',
    f'{block}/LayerNorm_1',
    'Transformer/encoder_norm',
  )
  for name in norms:
    expected[f'{name}/scale'] = expected[f'{name}/bias'] = (12,)
  assert shapes == expected


def test_initial_values():
  model = create(depth=1, width=96, heads=4, mlp_dim=192, head_bias=-10.0)
  params = jax.jit(model.init)(jax.random.key(0), IMAGES)['params']
  p = params['Transformer']
  block = p['encoderblock_0']
  assert not params['cls'].any()
  assert not params['head']['kernel'].any()
  assert (params['head']['bias'] == -10).all()
  positions = p['posembed_input']['pos_embedding']
  assert positions.std() == pytest.approx(0.02, rel=0.1)
  # LeCun: variance 1 / fan-in, here 4 * 2 * 3.
  kernel = params['embedding']['kernel']
  assert kernel.std() == pytest.approx(24**-0.5, rel=0.1)
  # Xavier uniform: bound sqrt(6 / (fan-in + fan-out)), heads taken together.
  attention = block['MultiHeadDotProductAttention_0']
  for name in ('query', 'key', 'value', 'out'):
    kernel = attention[name]['kernel']
    assert abs(kernel).max() == pytest.approx((6 / 192) ** 0.5, rel=0.01)
    assert not attention[name]['bias'].any()
  for dense in block['MlpBlock_0'].values():
    assert abs(dense['kernel']).max() == pytest.approx(
      (6 / 288) ** 0.5, rel=0.01
    )
    assert dense['bias'].std() == pytest.approx(1e-6, rel=0.25)


def test_bfloat16_leaves_parameters_norms_softmax_and_head_in_float32():
  model = create(
    dtype='bfloat16',
    dropout=0.1,
    stochastic_depth=0.1,
    representation_size=5,
    platform='tpu',
  )
  variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
  p = random_params(model)
  text = str(
    jax.make_jaxpr(functools.partial(model.apply, train=True))(
      {'params': p}, IMAGES, rngs={'dropout': jax.random.key(0)}
    )
  )

  def result_types(primitive):
    return re.findall(rf':(\w+)\[[\d,]*\] = {primitive}\b', text)

  assert result_types('exp') == ['f32'] * TINY['depth']
  assert result_types('rsqrt') == ['f32'] * (2 * TINY['depth'] + 1)
  # Of a block's eight products only the scores leave bfloat16; and the two of
  # the head.
  assert collections.Counter(result_types('dot_general')) == {
    'bf16': 7 * TINY['depth'],
    'f32': TINY['depth'] + 2,
  }

  logits, features = jax.jit(model.apply)({'params': p}, IMAGES)
  exact, _ = jax.jit(create(representation_size=5).apply)({'params': p}, IMAGES)
  assert logits.dtype == features['encoded'].dtype == jnp.float32
  np.testing.assert_allclose(logits, exact, atol=0.1)


@pytest.mark.parametrize('pool', ['token', 'gap'])
@pytest.mark.parametrize('representation_size', [None, 5])
@pytest.mark.parametrize('num_classes', [0, 7])
def test_features_have_the_same_names_on_every_path(
  pool, representation_size, num_classes
):
  model = create(
    pool=pool,
    representation_size=representation_size,
    num_classes=num_classes,
    dropout=0.1,
  )
  p = random_params(model)
  assert ('cls' in p) == (pool == 'token')
  assert ('head' in p) == (num_classes > 0)
  for train in (False, True):
    logits, features = jax.eval_shape(
      functools.partial(model.apply, train=train),
      {'params': p},
      IMAGES,
      rngs={'dropout': jax.random.key(0)},
    )
    assert set(features) == FEATURES
    assert features['patches'].shape == (2, 10, 12)
    assert features['encoded'].shape == (2, 10 + (pool == 'token'), 12)
    assert features['pooled'].shape == (2, 12)
    assert features['pre_logits'].shape == (2, representation_size or 12)
    assert (logits and logits.shape) == ((2, 7) if num_classes else None)


@pytest.mark.parametrize(
  'images, message',
  [
    (np.zeros((1, 9, 10, 3), 'f4'), '9x10 pixels .* 4x2: .* image of 8x10'),
    (np.zeros((1, 8, 10, 3), 'u1'), r'floats .* uint8 of shape \(1, 8, 10, 3'),
    (np.zeros((1, 8, 10, 1), 'f4'), r'three channels'),
    (np.zeros((8, 10, 3), 'f4'), r'\(b, h, w, 3\), got .* \(8, 10, 3\)'),
  ],
)
def test_images_that_do_not_fit_are_refused_in_the_trace(images, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(create().init, jax.random.key(0), images)


@pytest.mark.parametrize(
  'overrides, message',
  [
    ({'heads': 5}, 'width of 12 .* 5 attention heads'),
    ({'depth': 0}, 'depth .* at least 1, got 0'),
    ({'patch_size': 0}, 'positive number'),
    ({'pool': 'max'}, "unknown pool 'max'; known: token, gap"),
    ({'dtype': 'float16'}, "'float16'; known: float32, bfloat16"),
    ({'gelu': 'relu'}, "'relu'; known: tanh, erf"),
    ({'dropout': 1.0}, r'dropout .* \[0, 1\), got 1.0'),
    ({'stochastic_depth': 1.0}, r'stochastic_depth .* \[0, 1\), got 1.0'),
    ({'representation_size': 'wide'}, "'width' or None, got 'wide'"),
    ({'representation_size': 0}, 'positive number.* got 0'),
    ({'remat': 'some'}, "unknown remat 'some'; known: none, full, dots"),
  ],
)
def test_overrides_out_of_range_are_refused(overrides, message):
  with pytest.raises(ValueError, match=message):
    create(**overrides)


def test_sizes_that_are_not_overridden_come_from_the_name():
  model = models.create('ViT-S/8', num_classes=2, depth=3)
  assert (model.depth, model.width, model.heads) == (3, 384, 6)
  assert model.patch_size == (8, 8)
