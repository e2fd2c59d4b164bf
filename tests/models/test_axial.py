"""Axial attention against full attention of which rows or columns are left."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.checkpoints.formats import official
from vit_jax.models import axial, flops, patch_predictor, stacking, vit
import weights

GRID = (2, 3)
WIDTH = 8
ROW = np.array([0, 0, 0, 1, 1, 1])
COLUMN = np.array([0, 1, 2, 0, 1, 2])


def only(allowed):
  """Adds to logits what leaves pairs of tokens out."""
  return lambda query: jnp.where(allowed, 0.0, -jnp.inf)


def block_of(query_bias=None):
  return functools.partial(
    vit.EncoderBlock,
    mlp_dim=10,
    heads=2,
    query_bias=query_bias,
  )


def test_a_block_is_full_attention_masked_to_rows_and_then_to_columns():
  x = jax.random.normal(jax.random.key(0), (2, 6, WIDTH))
  block = axial.AxialBlock(block_of(), GRID)
  shapes = jax.eval_shape(block.init, jax.random.key(1), x, None)['params']
  rng = np.random.default_rng(2)
  p = jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape).astype('f4'), shapes)
  expected, sown = x, []
  for name, place in ('rows', ROW), ('columns', COLUMN):
    masked = block_of(only(place[:, None] == place))()
    expected, found = masked.apply(
      {'params': p[name]}, expected, None, mutable='intermediates'
    )
    (weights_of_all,) = jax.tree.leaves(found)
    sown.append(weights_of_all)
  found, intermediates = jax.jit(
    lambda p: block.apply({'params': p}, x, None, mutable='intermediates')
  )(p)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  assert np.abs(expected - x).max() > 0.1
  (rows,) = jax.tree.leaves(intermediates['intermediates']['rows'])
  assert rows.shape == (2 * 2, 2, 3, 3)
  np.testing.assert_allclose(
    rows[1], sown[0][0, :, 3:, 3:], rtol=1e-4, atol=1e-6
  )


def test_all_sequences_of_an_image_are_dropped_together():
  x = jax.random.normal(jax.random.key(0), (2, 6, WIDTH))
  block = axial.AxialBlock(block_of(), GRID)
  # The columns of the first image are kept, and the rows of the second.
  factors = jnp.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])

  @jax.jit
  def run():
    variables = block.init(jax.random.key(1), x, None)

    def part(name):
      params = {'params': variables['params'][name]}
      return lambda sequences: block_of()().apply(params, sequences, None)

    columns, rows = x.reshape(2, 1, *GRID, WIDTH)
    columns = axial.within_columns(part('columns'), columns)
    rows = axial.within_rows(part('rows'), rows)
    expected = jnp.concatenate([columns, rows]).reshape(x.shape)
    return block.apply(variables, x, None, factors), expected

  found, expected = run()
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
  assert np.abs(found - x).max() > 0.1


def test_sequences_are_rows_and_columns():
  x = np.arange(2 * 2 * 3).reshape(2, 2, 3, 1)

  def total(sequences):
    return jnp.broadcast_to(sequences.sum(1, keepdims=True), sequences.shape)

  rows = axial.within_rows(total, x)[..., 0]
  assert rows.tolist() == [[[3] * 3, [12] * 3], [[21] * 3, [30] * 3]]
  columns = axial.within_columns(total, x)[..., 0]
  assert columns.tolist() == [[[3, 5, 7]] * 2, [[15, 17, 19]] * 2]


def test_a_scan_computes_the_same():
  model = weights.tiny('Axial-ViT-Ti/16', depth=2)
  params = weights.random_params(model)
  images = weights.random_images()
  rates = {'dropout': 0.3, 'stochastic_depth': 0.5}

  def encode(params, **options):
    _, features = model.clone(**rates, **options).apply(
      {'params': params},
      images,
      train=True,
      rngs={'dropout': jax.random.key(0)},
    )
    return features['encoded']

  expected = jax.jit(encode)(params)
  stacked = stacking.stack(params)
  found = jax.jit(functools.partial(encode, scan=True))(stacked)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  'name, patch', [('Axial-ViT-B/32', 32), ('Axial-ViT-B/16', 16)]
)
def test_parameter_counts_and_operations(name, patch):
  model = models.create(name, num_classes=1000)
  images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  params = jax.eval_shape(model.init, jax.random.key(0), images)['params']
  side, width, hidden = 224 // patch, 768, 3072
  attention = 4 * (width**2 + width)
  mlp = 2 * width * hidden + hidden + width
  assert sum(x.size for x in jax.tree.leaves(params)) == (
    (3 * patch**2 + 1) * width  # Embedding,
    + side**2 * width  # positions, and no class token.
    + 12 * 2 * (attention + mlp + 4 * width)  # Two halves a block.
    + 2 * width
    + (width + 1) * 1000
  )
  tokens = side**2
  assert flops.forward(model, (224, 224)) == 2 * (
    tokens * 3 * patch**2 * width
    + 24 * tokens * (4 * width**2 + 2 * width * hidden)
    + 24 * 2 * tokens * side * width  # Each token looks at `side` of them.
    + 1000 * width
  )


def test_relative_positions_are_offsets_in_a_row_and_in_a_column():
  model = weights.tiny('Axial-ViT-Ti/16', positions='relative', depth=1)
  flat = official.flatten(weights.random_params(model))
  tables = {
    name.split('/')[2]: x.shape for name, x in flat.items() if 'offsets' in name
  }
  assert tables == {'rows': (2 * 3 - 1, 4), 'columns': (2 * 2 - 1, 4)}


def test_there_is_no_class_token_whatever_the_pool():
  model = weights.tiny('Axial-ViT-Ti/16', pool='token')
  assert model.pool == 'gap'
  assert 'cls' not in weights.random_params(model)


def test_patches_can_be_masked():
  model = patch_predictor.MaskedPatchPredictor(
    weights.tiny('Axial-ViT-Ti/16', num_classes=0), outputs=5
  )
  images = weights.random_images()
  out, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
  assert out.shape == (2, 6, 5)
