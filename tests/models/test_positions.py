"""The grid of patches, and position embeddings against plain loops."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.checkpoints.formats import official
from vit_jax.models import positions, stacking, vit
import weights

TABLE = 'Transformer/posembed_input/pos_embedding'
IMAGES = weights.random_images()  # Two rows and three columns of patches.


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
def test_invalid_sizes_are_refused(size):
  with pytest.raises(ValueError, match='one positive number or a pair'):
    positions.as_pair(size)


@functools.cache
def usual(pool):
  """A model with 1-D positions, its weights and a function to run it."""
  model = weights.tiny(pool=pool)
  encode = jax.jit(lambda p: model.apply({'params': p}, IMAGES)[1]['encoded'])
  flat = official.flatten(weights.random_params(model))
  return flat, lambda flat: encode(official.unflatten(flat))


def encode(flat, **options):
  model = weights.tiny(**options)
  return jax.jit(lambda p: model.apply({'params': p}, IMAGES)[1]['encoded'])(
    official.unflatten(flat)
  )


@pytest.mark.parametrize('pool', ['token', 'gap'])
def test_rows_and_columns_against_a_loop(pool):
  rng = np.random.default_rng(0)
  rows, columns = rng.normal(size=(2, 6)), rng.normal(size=(3, 6))
  table = np.zeros((6, 12))
  for row in range(2):
    for column in range(3):
      for i in range(12):
        value = rows[row, i] if i < 6 else columns[column, i - 6]
        table[3 * row + column, i] = value
  if pool == 'token':
    table = np.concatenate([np.zeros((1, 12)), table])
  flat, encode_usual = usual(pool)
  expected = encode_usual(flat | {TABLE: table[None].astype('f4')})
  theirs = {name: x for name, x in flat.items() if name != TABLE}
  theirs[f'{TABLE}_rows'] = rows.astype('f4')
  theirs[f'{TABLE}_columns'] = columns.astype('f4')
  found = encode(theirs, pool=pool, positions='2d')
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('class_token', [True, False])
def test_offsets_against_a_loop(class_token):
  module = vit.SelfAttention(
    heads=3,
    mlp_dim=20,
    query_bias=positions.query_bias('relative', class_token),
  )
  rng = np.random.default_rng(1)
  x = rng.normal(size=(2, 6 + class_token, 12)).astype('f4')
  shapes = jax.eval_shape(module.init, jax.random.key(0), x)['params']
  p = jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape).astype('f4'), shapes)
  table = p['posembed']['pos_embedding_offsets']
  assert table.shape == (2 * 6 - 1, 4)

  def project(name):
    return np.einsum('nd,dhs->hns', image, p[name]['kernel']) + np.expand_dims(
      p[name]['bias'], 1
    )

  _, sown = jax.jit(functools.partial(module.apply, mutable='intermediates'))(
    {'params': p}, x
  )
  (weights_found,) = sown['intermediates']['weights']
  for b, image in enumerate(x):
    queries, keys = project('query'), project('key')
    for head in range(3):
      for q in range(len(image)):
        logits = np.zeros(len(image))
        for k in range(len(image)):
          logits[k] = queries[head, q] @ keys[head, k]
          if not class_token or (q and k):
            offset = q - k  # From -5 to 5, the slots of the table.
            logits[k] += queries[head, q] @ table[offset + 5]
        expected = np.exp(logits / 2)  # The root of the head size.
        np.testing.assert_allclose(
          weights_found[b, head, q],
          expected / expected.sum(),
          rtol=1e-4,
          atol=1e-6,
        )


def test_without_positions_is_with_zeros():
  flat, encode_usual = usual('token')
  expected = encode_usual(flat | {TABLE: np.zeros_like(flat[TABLE])})
  without = {name: x for name, x in flat.items() if name != TABLE}
  found = encode(without, positions='none')
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_positions_of_every_layer_are_added_to_what_it_reads():
  flat, encode_usual = usual('token')
  flat = dict(flat)
  table = flat.pop(TABLE)
  shared = flat | {'Transformer/posembed_shared/pos_embedding': table}
  own = flat | {
    f'Transformer/encoderblock_{i}/posembed/pos_embedding': table
    for i in range(2)
  }
  found = encode(shared, positions_at='every_layer_shared')
  np.testing.assert_allclose(
    encode(own, positions_at='every_layer'), found, rtol=1e-5, atol=1e-6
  )
  # Those of the second block, of zeros, leave those of the stem.
  own['Transformer/encoderblock_1/posembed/pos_embedding'] = 0 * table
  np.testing.assert_allclose(
    encode(own, positions_at='every_layer'),
    encode_usual(flat | {TABLE: table}),
    rtol=1e-5,
    atol=1e-6,
  )


def train(params, **options):
  """Returns the encoded tokens of a model in training."""
  _, features = weights.tiny(dropout=0.3, **options).apply(
    {'params': params}, IMAGES, train=True, rngs={'dropout': jax.random.key(0)}
  )
  return features['encoded']


@pytest.mark.parametrize(
  'kind, place',
  [('1d', 'every_layer_shared'), ('2d', 'every_layer'), ('relative', 'stem')],
)
def test_a_scan_computes_the_same(kind, place):
  options = {'positions': kind, 'positions_at': place}
  params = weights.random_params(weights.tiny(**options))
  expected = jax.jit(functools.partial(train, **options))(params)
  stacked = stacking.stack(params)
  found = jax.jit(functools.partial(train, scan=True, **options))(stacked)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

  def loss(params):
    return jnp.sum(train(params, scan=True, remat='full', **options))

  gradients = jax.eval_shape(jax.grad(loss), stacked)
  assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(np.shape, stacked)


# Of weights.tiny: 12 wide, 2 layers, 3 heads of 4, 2x3 patches, a class token.
@pytest.mark.parametrize(
  'kind, place, count',
  [
    ('none', 'stem', 0),
    ('1d', 'stem', 7 * 12),
    ('1d', 'every_layer', 2 * 7 * 12),
    ('1d', 'every_layer_shared', 7 * 12),
    ('2d', 'stem', (2 + 3) * 6),
    ('2d', 'every_layer', 2 * (2 + 3) * 6),
    ('2d', 'every_layer_shared', (2 + 3) * 6),
    ('relative', 'stem', 2 * 11 * 4),
  ],
)
def test_parameter_counts(kind, place, count):
  model = weights.tiny(positions=kind, positions_at=place)
  flat = official.flatten(weights.random_params(model))
  tables = [x.size for name, x in flat.items() if 'pos_embedding' in name]
  assert sum(tables) == count
  usual_flat, _ = usual('token')
  assert sum(x.size for x in flat.values()) - count == (
    sum(x.size for x in usual_flat.values()) - 7 * 12
  )


def test_embeddings_stay_in_float32():
  logits = functools.partial(positions.offset_bias, num_prefix=1)
  module = vit.SelfAttention(
    heads=3, mlp_dim=20, dtype=jnp.bfloat16, query_bias=logits
  )
  x = jnp.ones((2, 7, 12), jnp.bfloat16)
  out, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
  assert out.dtype == jnp.bfloat16
  table = variables['params']['posembed']['pos_embedding_offsets']
  assert table.dtype == jnp.float32


@pytest.mark.parametrize(
  'options, message',
  [
    ({'positions': '3d'}, "unknown positions '3d'; known: none, 1d, 2d, rel"),
    ({'positions_at': 'end'}, "unknown positions_at 'end'; known: stem, every"),
    (
      {'positions': 'none', 'positions_at': 'every_layer'},
      "'none' are not added .* leave positions_at at 'stem'",
    ),
    (
      {'positions': 'relative', 'positions_at': 'every_layer_shared'},
      "'relative' are not added .*'every_layer_shared'.* act in every layer",
    ),
    ({'positions': '2d', 'width': 15}, 'a width of 15 is odd'),
  ],
)
def test_impossible_positions_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    weights.tiny(**options)


def test_sines_and_cosines_against_a_loop():
  table = positions.sincos_table((2, 3), 12)
  assert table.shape == (6, 12)
  for row in range(2):
    for column in range(3):
      for i in range(3):
        omega = 10_000 ** -(i / 2)
        expected = (
          math.sin(column * omega),
          math.cos(column * omega),
          math.sin(row * omega),
          math.cos(row * omega),
        )
        found = table[3 * row + column].reshape(4, 3)[:, i]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize('pool', ['token', 'gap'])
def test_fixed_positions_are_those_of_a_table(pool):
  table = positions.sincos_table((2, 3), 12)
  if pool == 'token':
    table = np.concatenate([np.zeros((1, 12), 'f4'), table])
  flat, encode_usual = usual(pool)
  expected = encode_usual(flat | {TABLE: table[None]})
  fixed = {name: x for name, x in flat.items() if name != TABLE}
  found = encode(fixed, pool=pool, positions='sincos2d')
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  model = weights.tiny(pool=pool, positions='sincos2d')
  assert set(official.flatten(weights.random_params(model))) == set(fixed)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'positions_at': 'every_layer'}, 'added once'),
    ({'width': 6}, 'the width is 6; choose a multiple of 4'),
    ({'width': 4, 'heads': 2}, 'at least 8'),
  ],
)
def test_invalid_fixed_positions(options, message):
  with pytest.raises(ValueError, match=message):
    weights.tiny(positions='sincos2d', **options)
