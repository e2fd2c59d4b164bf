import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.training import optim, path_patterns


def rates(name, steps, **kwargs):
  return [float(optim.schedule(name, **kwargs)(jnp.asarray(s))) for s in steps]


def test_linear_decay_ends_at_1e_5():
  lr = rates('linear', [0, 5, 10, 60, 110], lr=1e-3, total_steps=110,
             warmup_steps=10)  # fmt: skip
  np.testing.assert_allclose(
    lr, [0, 5e-4, 1e-3, (1e-3 + 1e-5) / 2, 1e-5], rtol=1e-5, atol=1e-12
  )


def test_cosine_decay_ends_at_zero():
  lr = rates('cosine', [2, 4, 29, 54, 104], lr=0.8, total_steps=104,
             warmup_steps=4)  # fmt: skip
  quarter = 0.8 * (1 + np.cos(np.pi / 4)) / 2
  np.testing.assert_allclose(lr, [0.4, 0.8, quarter, 0.4, 0], atol=1e-6)


def test_no_warmup_starts_at_full_rate():
  assert rates('cosine', [0], lr=0.5, total_steps=9, warmup_steps=0) == [0.5]


PARAMS = {
  'cls': jnp.array([2.0]),
  'dense': {'kernel': jnp.array([3.0]), 'bias': jnp.array([5.0])},
}
GRADS = jax.tree.map(lambda x: jnp.array([0.5]), PARAMS)


def update(optimizer, grads=GRADS, times=1):
  state = optimizer.init(PARAMS)
  for _ in range(times):
    updates, state = jax.jit(optimizer.update)(grads, state, PARAMS)
  return updates


def test_adam_decays_only_kernels_by_the_scheduled_rate():
  updates = update(
    optim.create('adam', lambda step: 0.1 * (step + 1), weight_decay=0.2),
    times=2,
  )
  # With a constant gradient, Adam's direction is its sign. The learning rate
  # of the second update is 0.2.
  np.testing.assert_allclose(updates['cls'], [-0.2], rtol=1e-4)
  np.testing.assert_allclose(updates['dense']['bias'], [-0.2], rtol=1e-4)
  np.testing.assert_allclose(
    updates['dense']['kernel'], [-0.2 * (1 + 0.2 * 3.0)], rtol=1e-4
  )


def test_sgd_accumulates_momentum():
  updates = update(optim.create('sgd', lambda step: 0.1, momentum=0.9), times=3)
  np.testing.assert_allclose(
    updates['cls'], [-0.1 * 0.5 * (1 + 0.9 + 0.81)], rtol=1e-6
  )


@pytest.mark.parametrize(
  ('coupled', 'kernel'),
  [
    # The direction is 0.5 (1 + 0.9 + 0.81); decay adds 0.2 * 3 to the update,
    # or to each gradient.
    (False, -0.1 * (0.5 * 2.71 + 0.6)),
    (True, -0.1 * (0.5 + 0.6) * 2.71),
  ],
)
def test_sgd_decays_kernels_by_the_update_or_the_gradient(coupled, kernel):
  optimizer = optim.create(
    'sgd',
    lambda step: 0.1,
    momentum=0.9,
    weight_decay=0.2,
    coupled_decay=coupled,
  )
  updates = update(optimizer, times=3)
  np.testing.assert_allclose(updates['dense']['kernel'], [kernel], rtol=1e-6)
  np.testing.assert_allclose(updates['cls'], [-0.1 * 0.5 * 2.71], rtol=1e-6)


@pytest.mark.parametrize('name', ['adam', 'sgd'])
def test_only_the_first_moment_is_kept_in_bfloat16(name):
  def make(mu_dtype):
    return optim.create(name, lambda step: 0.1, mu_dtype=mu_dtype)

  state = make('bfloat16').init(PARAMS)
  kinds = {x.dtype.name for x in jax.tree.leaves(state) if x.ndim}
  assert kinds == {'bfloat16'} | ({'float32'} if name == 'adam' else set())
  exact = update(make('float32'), times=3)
  for a, b in zip(
    jax.tree.leaves(update(make('bfloat16'), times=3)),
    jax.tree.leaves(exact),
    strict=True,
  ):
    assert a.dtype == jnp.float32
    np.testing.assert_allclose(a, b, rtol=1e-2)


def test_clipping_scales_the_global_norm():
  grads = {
    'cls': jnp.array([3.0]),
    'dense': {'kernel': jnp.array([4.0]), 'bias': jnp.array([12.0])},
  }  # Norm 13.
  updates = update(
    optim.create('sgd', lambda step: 1.0, momentum=0.0, clip_norm=1.0), grads
  )
  np.testing.assert_allclose(updates['dense']['kernel'], [-4 / 13], rtol=1e-6)


def test_unknown_names_fail():
  with pytest.raises(KeyError, match='step'):
    optim.schedule('step', lr=1.0, total_steps=2, warmup_steps=1)


def test_steps_divide_by_ten_after_each_boundary():
  lr = rates(
    'steps', [50, 100, 200, 201, 301], lr=1.0, total_steps=500,
    warmup_steps=100, boundaries=(200, 300),
  )  # fmt: skip
  np.testing.assert_allclose(lr, [0.5, 1, 1, 0.1, 0.01], rtol=1e-6)


def test_frozen_weights_do_not_change():
  frozen = optim.is_frozen(PARAMS, '(?!dense/).*')
  assert frozen == {'cls': True, 'dense': {'kernel': False, 'bias': False}}
  updates = update(
    optim.create(
      'sgd',
      lambda step: 1.0,
      weight_decay=0.1,
      clip_norm=1e-3,
      frozen=frozen,
    )
  )
  assert updates['cls'] == 0
  # Clipping ignores the frozen gradient: two equal ones remain.
  np.testing.assert_allclose(
    updates['dense']['bias'], [-1e-3 / np.sqrt(2)], rtol=1e-5
  )
  np.testing.assert_allclose(
    updates['dense']['kernel'], [-1e-3 / np.sqrt(2) - 0.3], rtol=1e-5
  )


def test_factors_scale_updates_after_clipping_and_decay():
  factors = {'cls': 0.25, 'dense': {'kernel': 0.5, 'bias': 3.0}}
  options = {'weight_decay': 0.1, 'clip_norm': 1e-3, 'mu_dtype': 'bfloat16'}
  options['frozen'] = {'cls': True, 'dense': {'kernel': False, 'bias': False}}
  plain = optim.create('adam', lambda step: 0.1, **options)
  scaled = optim.create('adam', lambda step: 0.1, lr_factors=factors, **options)
  jax.tree.map(
    lambda new, old, factor: np.testing.assert_allclose(
      new, factor * old, rtol=1e-6
    ),
    update(scaled, times=2),
    update(plain, times=2),
    factors,
  )
  # The state has no more arrays.
  states = plain.init(PARAMS), scaled.init(PARAMS)
  assert len({len(jax.tree.leaves(state)) for state in states}) == 1


@pytest.mark.parametrize(
  ('pattern', 'what'), [('nothing', 'no weight'), ('.*', 'every weight')]
)
def test_patterns_that_freeze_all_or_nothing_are_refused(pattern, what):
  with pytest.raises(ValueError, match=f'matches {what}'):
    optim.is_frozen(PARAMS, pattern)


def test_a_pattern_that_takes_years_is_refused(monkeypatch):
  monkeypatch.setattr(path_patterns, '_MATCH_SECONDS', 0.5)
  params = {'x' * 50: {'kernel': 0}}
  with pytest.raises(ValueError, match='takes more than 0.5 s to match'):
    optim.is_frozen(params, r'(\w+/?)+!')
