import functools

import jax
import numpy as np
import pytest

from vit_jax.models import stacking
from vit_jax.training import optim
from vit_jax.training import state as state_lib
import weights

HYBRID = {'stage_depths': (1, 1), 'width_factor': 0.5, 'patch_size': 1}
DEPTH = 11  # So that the order of numbers is not that of names.


def make_params():
  return {
    'head': {'kernel': np.full(3, -1.0)},
    'Transformer': {
      f'encoderblock_{i}': {'Dense_0': {'kernel': np.full((2, 3), i)}}
      for i in range(DEPTH)
    }
    | {'encoder_norm': {'scale': np.ones(2)}},
  }


def test_layers_are_stacked_in_their_order():
  params = make_params()
  stacked = stacking.stack(params)
  assert sorted(stacked['Transformer']) == ['encoder_norm', 'encoderblock']
  kernel = stacked['Transformer']['encoderblock']['Dense_0']['kernel']
  assert kernel.shape == (DEPTH, 2, 3)
  assert isinstance(kernel, np.ndarray)
  np.testing.assert_array_equal(kernel[:, 0, 0], np.arange(DEPTH))
  assert 'encoderblock_0' in params['Transformer']
  jax.tree.map(np.testing.assert_array_equal, stacking.unstack(stacked), params)
  assert stacking.unstack(params) == params


@pytest.mark.parametrize('pattern', ['head/.*', '(?!head/).*'])
def test_a_state_with_frozen_weights_comes_back(pattern):
  """Also if the optimizer holds no state for any block."""
  params = make_params()
  optimizer = optim.create(
    'adam', lambda step: 0.1, frozen=optim.is_frozen(params, pattern)
  )
  state = state_lib.create(params, optimizer, average=True)
  stacked = stacking.stack(state)
  assert jax.tree.structure(stacked) != jax.tree.structure(state)
  back = stacking.unstack(stacked)
  assert jax.tree.structure(back) == jax.tree.structure(state)
  jax.tree.map(np.testing.assert_array_equal, back, state)


@pytest.mark.parametrize(
  ('name', 'options'),
  [
    ('ViT-Ti/16', {'dtype': 'bfloat16'}),
    ('Axial-ViT-Ti/16', {}),
    ('R50+ViT-B/32', HYBRID),
  ],
)
def test_outputs_of_blocks_are_those_of_models_cut_after_them(name, options):
  # This pooling has no norm after the last block.
  model = weights.tiny(name, pool='gap_norm', **options)
  params, images = weights.random_params(model), weights.random_images()

  @jax.jit
  def features(params, stacked):
    scanned = model.clone(scan=True).apply
    cut = [model.clone(depth=i).apply for i in (1, 2)]
    return (
      model.apply({'params': params}, images, blocks=range(2))[1],
      scanned({'params': stacked}, images, blocks=(1, -2))[1],
      [apply({'params': params}, images)[1]['encoded'] for apply in cut],
    )

  found, scanned, expected = features(params, stacking.stack(params))
  assert found['blocks'].keys() == {0, 1}
  assert scanned['blocks'].keys() == {1, -2}
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
  for i in range(2):
    assert found['blocks'][i].dtype == np.float32
    close(found['blocks'][i], expected[i])
  tolerance = 0.1 if 'dtype' in options else 1e-5
  close = functools.partial(close, rtol=tolerance, atol=tolerance)
  close(scanned['blocks'][-2], expected[0])
  close(scanned['blocks'][1], expected[1])
  assert np.std(expected[1] - expected[0]) > 0.1


@pytest.mark.parametrize('i', [2, -3])
def test_a_block_that_the_model_lacks_is_an_error(i):
  model = weights.tiny()
  params = weights.random_params(model)
  with pytest.raises(ValueError, match=f'no block {i}; .* 2 blocks'):
    model.apply({'params': params}, weights.random_images(), blocks=[0, i])


def test_under_jit():
  back = jax.jit(lambda tree: stacking.unstack(stacking.stack(tree)))(
    make_params()
  )
  jax.tree.map(np.testing.assert_array_equal, back, make_params())
