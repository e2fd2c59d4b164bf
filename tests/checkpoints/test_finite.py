"""Arrays that hold a NaN or an infinity are found and named."""

import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import checkpoints
from vit_jax.checkpoints import arithmetic, finite
import weights


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('as_array', [np.array, jnp.array])
def test_arrays_are_named(bad, dtype, as_array):
  spoiled = as_array(np.array([[0, bad], [1, 2]]), jnp.dtype(dtype))
  tree = {'a': spoiled, 'b': [as_array([3]), {'c': spoiled}], 'd': None}
  assert finite.non_finite(tree) == ['a', 'b/1/c']
  assert finite.non_finite({'b': tree['b'][0]}) == finite.non_finite({}) == []
  with (
    pytest.raises(
      finite.NonFiniteError,
      match=r'^here: it: NaN or infinite values in a, b/1/c; stop\.$',
    ),
    finite.located('here'),
  ):
    finite.check(tree, 'it', '; stop.')


def test_a_message_names_three_arrays():
  tree = dict.fromkeys('abcde', np.array(np.nan))
  with pytest.raises(finite.NonFiniteError, match='in a, b, c and 2 more'):
    finite.check(tree, 'it')


@pytest.mark.parametrize('name', ['final.npz', 'model.safetensors'])
def test_weights_that_are_not_finite_are_not_exported(tmp_path, name):
  params = weights.random_params(weights.tiny())
  params['head']['kernel'][1, 2] = np.nan
  with pytest.raises(
    finite.NonFiniteError, match=f'cannot write .*{name}: .* in head/kernel'
  ):
    checkpoints.export(params, tmp_path / name)
  assert not list(tmp_path.iterdir())


def test_an_interpolation_factor_is_finite():
  tree = {'a': np.ones(2, np.float32)}
  with pytest.raises(ValueError, match='alpha=nan is not finite'):
    arithmetic.interpolate(tree, tree, np.nan)
