import jax
import numpy as np
import pytest

from vit_jax.models import stacking
from vit_jax.training import optim
from vit_jax.training import state as state_lib

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


def test_under_jit():
  back = jax.jit(lambda tree: stacking.unstack(stacking.stack(tree)))(
    make_params()
  )
  jax.tree.map(np.testing.assert_array_equal, back, make_params())
