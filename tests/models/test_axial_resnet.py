"""The AxialResNet against plain loops over the places of a map."""

from flax import traverse_util
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.models import axial_resnet, flops, resnet


def shapes_of(module, x):
  return jax.eval_shape(module.init, jax.random.key(0), x)['params']


def random_like(shapes):
  rng = np.random.default_rng(1)
  return jax.tree.map(lambda s: rng.normal(0, 1, s.shape).astype('f4'), shapes)


def attend(x, p):
  """Position-sensitive attention of a sequence (n, c), place by place."""
  length = len(x)
  parts = {
    name: np.einsum('nc,chs->hns', x, p[name]['kernel'])
    for name in ('query', 'key', 'value')
  }
  tables = {
    name: p[f'posembed_{name}']['pos_embedding_offsets'] for name in parts
  }
  heads = []
  for query, key, value in zip(*parts.values(), strict=True):
    out = np.zeros_like(value)
    for q in range(length):
      logits, values = np.zeros(length), np.zeros((length, value.shape[1]))
      for k in range(length):
        of_query, of_key, of_value = (
          table[q - k + length - 1] for table in tables.values()
        )
        logits[k] = query[q] @ key[k] + query[q] @ of_query + key[k] @ of_key
        values[k] = value[k] + of_value
      weights = np.exp(logits / np.sqrt(query.shape[1]))
      out[q] = weights / weights.sum() @ values
    heads.append(out)
  return np.concatenate(heads, axis=-1)


def test_attention_against_a_loop():
  x = np.random.default_rng(0).normal(size=(2, 3, 8)).astype('f4')
  module = axial_resnet.PositionSensitiveAttention(2, jnp.float32)
  p = random_like(shapes_of(module, x))
  found = jax.jit(module.apply)({'params': p}, x)
  for image, expected in zip(found, x, strict=True):
    np.testing.assert_allclose(image, attend(expected, p), rtol=1e-4, atol=1e-5)


class Mix(axial_resnet.Unit):
  """The part of a unit that replaces the 3x3 convolution."""

  @nn.compact
  def __call__(self, x):
    """Mixes a map."""
    return self.mix(x)


@pytest.mark.parametrize('stride', [1, 2])
def test_a_unit_mixes_rows_then_columns_then_takes_means(stride):
  module = Mix(
    width=32, stride=stride, dtype=jnp.float32, constrain=lambda x: x
  )
  x = np.random.default_rng(2).normal(size=(1, 3, 4, 32)).astype('f4')
  p = random_like(shapes_of(module, x))
  found = jax.jit(module.apply)({'params': p}, x)
  (grid,) = x
  grid = np.stack([attend(row, p['rows']) for row in grid])
  groups = grid.reshape(3, 4, 32)
  mean, variance = groups.mean((0, 1)), groups.var((0, 1))
  grid = (grid - mean) / np.sqrt(variance + 1e-5)
  grid = grid * p['gn_columns']['scale'] + p['gn_columns']['bias']
  grid = np.stack(
    [attend(column, p['columns']) for column in grid.swapaxes(0, 1)], axis=1
  )
  if stride == 2:
    # Three rows become two, of which the second is the mean of one.
    grid = np.stack(
      [
        [grid[r : r + 2, c : c + 2].mean((0, 1)) for c in (0, 2)]
        for r in (0, 2)
      ]
    )
  np.testing.assert_allclose(found[0], grid, rtol=1e-3, atol=1e-4)


def axial_count(size):
  """Returns parameters and operations of AxialR50x1 with 1000 classes."""
  count, channels, side = 7 * 7 * 3 * 64, 64, size // 4
  operations = 7 * 7 * 3 * 64 * (size // 2) ** 2
  for stage, depth in enumerate((3, 4, 6, 3)):
    width = 64 * 2**stage
    for unit in range(depth):
      # Queries and keys are half as wide as values, over 8 heads.
      projections = 2 * width**2
      tables = (2 * side - 1) * (2 * (width // 16) + width // 8)
      norms = 2 * (channels + 3 * width)
      count += channels * width + 2 * (projections + tables) + norms
      count += 4 * width**2
      # Three products of logits, half as wide; two of values.
      attention = side * (3 * width // 2 + 2 * width)
      operations += side**2 * (channels * width + 2 * (projections + attention))
      if unit == 0:
        count += channels * 4 * width
        side = side // 2 if stage else side
        operations += side**2 * channels * 4 * width
      operations += side**2 * 4 * width**2
      channels = 4 * width
  count += 2 * channels + (channels + 1) * 1000
  return count, 2 * (operations + channels * 1000)


def test_parameter_counts_and_operations():
  model = models.create('AxialR50x1', num_classes=1000)
  images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  params = jax.eval_shape(model.init, jax.random.key(0), images)['params']
  count, operations = axial_count(224)
  assert sum(x.size for x in jax.tree.leaves(params)) == count
  assert flops.forward(model, (224, 224)) == operations


def test_all_but_the_3x3_convolutions_is_the_baseline():
  def shapes(name):
    model = models.create(
      name, num_classes=3, stage_depths=(1, 2), width_factor=0.5
    )
    assert isinstance(model, resnet.ResNet)
    flat = traverse_util.flatten_dict(
      shapes_of(model, jnp.zeros((1, 21, 26, 3))), sep='/'
    )
    return {key: x.shape for key, x in flat.items()}

  ours, theirs = shapes('AxialR50x1'), shapes('R50x1')
  assert {k: s for k, s in theirs.items() if '/conv2/' not in k} == {
    k: s
    for k, s in ours.items()
    if not any(part in k for part in ('/rows/', '/columns/', '/gn_columns/'))
  }
  # The map of 6x7 is halved after the attention of the second block's first.
  lengths = {
    name: 2 * length - 1
    for name, length in {
      'block1/unit1/rows': 7,
      'block1/unit1/columns': 6,
      'block2/unit1/rows': 7,
      'block2/unit2/rows': 4,
      'block2/unit2/columns': 3,
    }.items()
  }
  for name, length in lengths.items():
    table = ours[f'{name}/posembed_value/pos_embedding_offsets']
    assert table == (length, 4 if name.startswith('block1') else 8)
