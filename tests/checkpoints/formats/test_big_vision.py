"""Files of big_vision: prefixes, positions, scanned layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import checkpoints, models
from vit_jax.checkpoints.formats import big_vision, official
import weights


@pytest.mark.parametrize('pool', ['token', 'gap'])
def test_round_trip_gives_equal_logits(tmp_path, pool):
  model = weights.tiny(pool=pool, representation_size=7)
  params = weights.random_params(model)
  path = tmp_path / 'params.npz'
  checkpoints.export(params, path, format='big_vision')
  with np.load(path) as archive:
    assert archive['params/pos_embedding'].shape == (1, 6, 12)
    assert 'params/Transformer/posembed_input/pos_embedding' not in archive
  loaded, description = checkpoints.load_with_description(path)
  assert description.format == 'big_vision'
  images = weights.random_images()
  np.testing.assert_allclose(
    weights.logits_of(model, loaded, images),
    weights.logits_of(model, params, images),
    rtol=1e-5,
  )
  if pool == 'gap':
    weights.assert_same(loaded, params)


def test_round_trip_with_class_slot_of_zero_is_exact(tmp_path):
  params = weights.random_params(weights.tiny())
  params['Transformer']['posembed_input']['pos_embedding'][:, 0] = 0
  checkpoints.export(params, tmp_path / 'params.npz', format='big_vision')
  weights.assert_same(checkpoints.load(tmp_path / 'params.npz'), params)


@pytest.mark.parametrize(
  'prefix', ['params/', 'opt/target/', 'params/img/', 'img/', '']
)
def test_the_image_model_is_found_under_its_prefix(tmp_path, prefix):
  params = weights.random_params(weights.tiny(pool='gap'))
  arrays = {
    name.replace('params/', prefix, 1): value
    for name, value in big_vision.to_arrays(params).items()
  }
  others = {'opt/count': np.zeros(())}
  if 'img' in prefix:
    others['params/txt/embed'] = np.ones(3)
  path = tmp_path / 'params.npz'
  np.savez(path, **arrays, **others)
  loaded, description = checkpoints.load_with_description(path)
  weights.assert_same(loaded, params)
  assert description.ignored == tuple(others)


def test_scanned_layers_are_split(tmp_path):
  params = weights.random_params(weights.tiny(pool='gap'))
  encoder = params['Transformer']
  stacked = jax.tree.map(
    lambda *layers: np.stack(layers),
    encoder['encoderblock_0'],
    encoder['encoderblock_1'],
  )
  scanned = {
    'embedding': params['embedding'],
    'head': params['head'],
    'pos_embedding': encoder['posembed_input']['pos_embedding'],
    'Transformer': {
      'encoder_norm': encoder['encoder_norm'],
      'encoderblock': stacked,
    },
  }
  arrays = official.flatten(scanned)
  np.savez(tmp_path / 'params.npz', **arrays)
  weights.assert_same(checkpoints.load(tmp_path / 'params.npz'), params)
  arrays['Transformer/encoderblock/LayerNorm_0/bias'] = np.zeros((3, 12))
  with pytest.raises(ValueError, match='number of layers: 2, 3'):
    big_vision.read(arrays)


def test_bfloat16_is_widened(tmp_path):
  params = weights.random_params(weights.tiny(pool='gap'))
  narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  np.savez(tmp_path / 'params.npz', **big_vision.to_arrays(narrow))
  weights.assert_same(
    checkpoints.load(tmp_path / 'params.npz'),
    jax.tree.map(lambda x: x.astype('f4'), narrow),
  )


def test_unsupported_parts_are_refused(tmp_path):
  params = weights.random_params(weights.tiny())
  params['mask_token'] = np.zeros(12)
  with pytest.raises(ValueError, match="params.npz.*cannot store 'mask_token'"):
    checkpoints.export(params, tmp_path / 'params.npz', format='big_vision')
  checkpoints.export(
    params, tmp_path / 'params.npz', format='big_vision', drop=('mask_token',)
  )


@pytest.mark.parametrize('positions', ['1d', 'sincos2d'])
def test_attention_pooling_and_fixed_positions(tmp_path, positions):
  model = weights.tiny(pool='map', positions=positions)
  params = weights.random_params(model)
  path = tmp_path / 'params.npz'
  checkpoints.export(params, path, format='big_vision', positions=positions)
  with np.load(path) as archive:
    assert archive['params/MAPHead_0/probe'].shape == (1, 1, 12)
    assert ('params/pos_embedding' in archive) == (positions == '1d')
  loaded, found = checkpoints.load_with_description(path)
  weights.assert_same(loaded, params)
  assert found.sizes.get('positions', '1d') == positions
  assert models.create('ViT-B/16', num_classes=4, **found.overrides) == model


def test_the_image_tower_of_siglip(tmp_path):
  """Attention pooling, and no head but the shared space of both towers."""
  model = weights.tiny(pool='map', num_classes=0)
  params = weights.random_params(model)
  arrays = {
    name.replace('params/', 'params/img/'): value
    for name, value in big_vision.to_arrays(params).items()
  }
  others = {f'params/{x}': np.ones(1) for x in ('b', 't', 'txt/head/bias')}
  np.savez(tmp_path / 'siglip.npz', **arrays, **others)
  loaded, found = checkpoints.load_with_description(tmp_path / 'siglip.npz')
  weights.assert_same(loaded, params)
  assert found.ignored == tuple(others)
  assert found.sizes['pool'] == 'map'
