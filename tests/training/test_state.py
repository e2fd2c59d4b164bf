import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax.training import randomness
from vit_jax.training import state as state_lib


def test_average_starts_as_a_copy_if_requested():
  params = {'kernel': jnp.ones(3)}
  state = state_lib.create(params, optax.sgd(1.0), average=True)
  assert int(state.step) == 0
  np.testing.assert_array_equal(state.ema_params['kernel'], np.ones(3))
  state = state_lib.create(params, optax.sgd(1.0), average=False)
  assert state.ema_params is None


@pytest.mark.parametrize(
  ('step', 'decay'),
  [(0, 1 / 10), (8, 9 / 18), (89_989, 89_990 / 89_999), (200_000, 0.9999)],
)
def test_ramp_of_the_average(step, decay):
  average = jax.jit(state_lib.update_average)(
    jnp.array(0.0), jnp.array(1.0), jnp.array(step), decay=0.9999
  )
  np.testing.assert_allclose(average, 1 - decay, rtol=1e-3)


def test_average_with_a_constant_decay():
  """Of weights that grow by 1 in each step, after 20,000 steps."""
  steps, decay = 20_000, 0.9999

  def step(average, t):
    weights = t.astype(jnp.float32) + 1
    average = state_lib.update_average(
      average, weights, t, decay=decay, ramp=False
    )
    return average, None

  with jax.enable_x64(True):
    average, _ = jax.lax.scan(step, jnp.zeros((), 'float64'), jnp.arange(steps))
  # Sum of (1 - decay) decay^(n - t) t, for t from 1 to n.
  expected = steps - decay * (1 - decay**steps) / (1 - decay)
  np.testing.assert_allclose(average, expected, rtol=1e-6)


def test_keys_depend_on_seed_stream_and_step():
  keys = [
    randomness.stream_key(seed, stream, step)
    for seed, stream, step in [
      (0, 'dropout', 0),
      (1, 'dropout', 0),
      (0, 'params', 0),
      (0, 'dropout', 1),
    ]
  ]
  data = {tuple(jax.random.key_data(key).tolist()) for key in keys}
  assert len(data) == 4
  again = jax.jit(randomness.stream_key, static_argnums=(0, 1))(0, 'dropout', 1)
  assert tuple(jax.random.key_data(again).tolist()) in data
