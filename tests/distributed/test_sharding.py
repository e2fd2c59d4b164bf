"""Sharding rules, on meshes without devices."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, PartitionSpec
import pytest

from vit_jax import models
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import sharding
from vit_jax.models import stacking
from vit_jax.training import optim
from vit_jax.training import state as state_lib

BLOCK = 'Transformer/encoderblock_0'
ATTENTION = f'{BLOCK}/MultiHeadDotProductAttention_0'
P = PartitionSpec


def make_mesh(data=1, fsdp=1, tensor=1):
  return AbstractMesh((data, fsdp, tensor), mesh_lib.AXES)


def make_state(name='ViT-B/16', num_classes=21843, stack=False, **overrides):
  model = models.create(name, num_classes=num_classes, **overrides)

  def init():
    image = jnp.zeros((1, 224, 224, 3))
    params = model.init(jax.random.key(0), image)['params']
    optimizer = optim.create('adam', lambda step: 0.1)
    params = stacking.stack(params) if stack else params
    return state_lib.create(params, optimizer, average=True)

  return jax.eval_shape(init)


STATE = make_state()


def specs(tree):
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    '/'.join(entry.key for entry in path): leaf.sharding.spec
    for path, leaf in flat
  }


def test_specs_on_all_three_axes():
  found = specs(sharding.place(STATE, make_mesh(2, 4, 2)).params)
  expected = {
    'cls': P(None, None, None),
    'embedding/kernel': P(None, None, None, 'fsdp'),
    'embedding/bias': P(None),
    'Transformer/posembed_input/pos_embedding': P(None, None, 'fsdp'),
    'Transformer/encoder_norm/scale': P(None),
    f'{ATTENTION}/query/kernel': P('fsdp', 'tensor', None),
    f'{ATTENTION}/value/bias': P('tensor', None),
    f'{ATTENTION}/out/kernel': P('tensor', None, 'fsdp'),
    f'{ATTENTION}/out/bias': P(None),
    f'{BLOCK}/MlpBlock_0/Dense_0/kernel': P('fsdp', 'tensor'),
    f'{BLOCK}/MlpBlock_0/Dense_0/bias': P('tensor'),
    f'{BLOCK}/MlpBlock_0/Dense_1/kernel': P('tensor', 'fsdp'),
    f'{BLOCK}/MlpBlock_0/Dense_1/bias': P(None),
    'head/kernel': P('fsdp', None),  # 21,843 classes do not divide by 4.
  }
  assert {name: found[name] for name in expected} == expected


def test_attention_pooling_is_sharded_like_blocks():
  state = make_state(pool='map', registers=4, depth=1, stack=True)
  found = specs(sharding.place(state, make_mesh(2, 4, 2)).params)
  attention = 'MAPHead_0/MultiHeadDotProductAttention_0'
  expected = {
    'registers': P(None, None, None),
    'MAPHead_0/probe': P(None, None, None),
    f'{attention}/query/kernel': P('fsdp', 'tensor', None),
    f'{attention}/out/kernel': P('tensor', None, 'fsdp'),
    'MAPHead_0/MlpBlock_0/Dense_0/kernel': P('fsdp', 'tensor'),
    'MAPHead_0/MlpBlock_0/Dense_1/bias': P(None),
    'MAPHead_0/LayerNorm_0/scale': P(None),
  }
  assert {name: found[name] for name in expected} == expected


def test_all_kinds_of_positions_are_sharded():
  options = [
    {'positions': '2d', 'positions_at': 'every_layer', 'depth': 2},
    {'positions': 'relative', 'depth': 2, 'stack': True},
    {'name': 'Axial-ViT-B/16', 'depth': 1},
  ]
  first, second, axial = (
    specs(sharding.place(make_state(**o), make_mesh(2, 4, 2)).params)
    for o in options
  )
  assert first[f'{BLOCK}/posembed/pos_embedding_rows'] == P(None, 'fsdp')
  stacked = ATTENTION.replace('block_0', 'block')
  name = f'{stacked}/posembed/pos_embedding_offsets'
  assert second[name] == P(None, None, 'fsdp')
  for half in ('rows', 'columns'):
    name = ATTENTION.replace(BLOCK, f'{BLOCK}/{half}')
    assert axial[f'{name}/query/kernel'] == P('fsdp', 'tensor', None)


def test_everything_is_replicated_on_a_data_mesh():
  placed = sharding.place(STATE, make_mesh(data=8))
  assert sharding.device_bytes(placed) == sum(
    x.size * x.dtype.itemsize for x in jax.tree.leaves(STATE)
  )


def test_averages_and_moments_are_sharded_like_their_weights():
  placed = sharding.place(STATE, make_mesh(1, 4, 2))
  for tree in (
    placed.ema_params,
    placed.opt_state[0].mu,
    placed.opt_state[0].nu,
  ):
    assert specs(tree) == specs(placed.params)
  assert placed.step.sharding.spec == placed.opt_state[0].count.sharding.spec
  assert placed.step.sharding.spec == P()


def test_stacked_blocks_are_not_sharded_by_layer():
  mesh = make_mesh(1, 4, 2)
  stacked = specs(sharding.place(make_state(stack=True), mesh).params)
  for name, spec in specs(sharding.place(STATE, mesh).params).items():
    if name.startswith(f'{BLOCK}/'):
      whole = stacked[name.replace('encoderblock_0', 'encoderblock')]
      assert whole == P(None, *spec)


def test_indivisible_heads_and_mlps_are_refused():
  with pytest.raises(ValueError, match='key/.* 12 attention heads .*tensor=8'):
    sharding.place(STATE, make_mesh(tensor=8))
  state = make_state(heads=8, mlp_dim=3004)
  with pytest.raises(ValueError, match='Dense_0/.* 3004 .*mesh.tensor=8'):
    sharding.place(state, make_mesh(tensor=8))


def test_tensor_parallelism_without_attention_is_refused():
  state = make_state('R50x1', stage_depths=(1,))
  with pytest.raises(ValueError, match='mesh.tensor=2 .* no weight matches'):
    sharding.place(state, make_mesh(tensor=2))
  sharding.place(state, make_mesh(fsdp=2))


def test_summary_lists_arrays_that_are_not_sharded():
  mesh = make_mesh(fsdp=8)
  state = make_state(depth=1, num_classes=5, width=12, heads=3, mlp_dim=4)
  text = sharding.summary(sharding.place(state, mesh), mesh)
  # Only the patch embedding, 4 times 16 * 16 * 3 * 12, is sharded.
  assert text.startswith('data=1, fsdp=8, tensor=1: 0.1 MiB of 0.2 MiB')
  assert '8 of them because no dimension is divisible by 8' in text
  assert 'pos_embedding (1, 197, 12)' in text


def test_bytes_per_device_by_hand():
  mesh = make_mesh(fsdp=2, tensor=2)
  tree = {
    'a/kernel': jax.ShapeDtypeStruct((3, 4), jnp.float32),
    'b/bias': jax.ShapeDtypeStruct((6,), jnp.bfloat16),
  }
  tree = {
    name: jax.ShapeDtypeStruct(
      x.shape,
      x.dtype,
      sharding=jax.sharding.NamedSharding(mesh, spec),
    )
    for (name, x), spec in zip(
      tree.items(), (P(None, 'fsdp'), P()), strict=True
    )
  }
  assert sharding.device_bytes(tree) == 3 * 2 * 4 + 6 * 2
