import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax import models
from vit_jax.training import optim, randomness, steps
from vit_jax.training import state as state_lib

MODEL = models.create(
  'ViT-Ti/4', num_classes=3, depth=2, width=16, mlp_dim=32, heads=2,
  dropout=0.1,
)  # fmt: skip


def make_batch(size=8):
  rng = np.random.default_rng(0)
  return {
    'image': rng.uniform(-1, 1, (size, 8, 8, 3)).astype(np.float32),
    'label': rng.integers(3, size=size).astype(np.int32),
    'mask': np.ones(size, np.float32),
  }


def make_state(optimizer, *, average=False):
  key = jax.random.key(1)
  params = MODEL.init(key, jnp.zeros((1, 8, 8, 3)), train=False)['params']
  # The head starts at zero, which would block the gradients of all else.
  params['head']['kernel'] = jax.random.normal(key, (16, 3))
  return state_lib.create(params, optimizer, average=average)


def constant(step):
  return 0.1 + 0.0 * step


def make_step(model=MODEL, *, objective=None, **kwargs):
  objective = objective or steps.classification(
    model, num_classes=3, loss='softmax'
  )
  optimizer = optim.create('sgd', constant)
  step = steps.make_train_step(objective, optimizer, constant, **kwargs)
  return functools.partial(step, seed=np.uint32(0))


SGD = optim.create('sgd', constant)
NO_DROPOUT = MODEL.clone(dropout=0.0)


def test_metrics_are_sums_and_counts_of_real_examples():
  batch = make_batch()
  batch['mask'][5:] = 0
  batch['image'][5:] = 1e3  # Padding has no effect.
  state = make_state(SGD)
  new_state, metrics = jax.jit(make_step(NO_DROPOUT))(state, batch)
  logits, _ = NO_DROPOUT.apply({'params': state.params}, batch['image'][:5])
  labels = batch['label'][:5]
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  np.testing.assert_allclose(metrics['loss'][0], losses.sum(), rtol=1e-5)
  assert metrics['loss'][1] == metrics['accuracy'][1] == 5
  assert metrics['accuracy'][0] == np.sum(np.argmax(logits, -1) == labels)
  np.testing.assert_allclose(metrics['learning_rate'][0], 0.1)
  assert new_state.step == 1

  def mean_loss(params):
    logits, _ = NO_DROPOUT.apply({'params': params}, batch['image'][:5])
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, labels
    ).mean()

  grads = jax.grad(mean_loss)(state.params)
  expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    new_state.params,
    expected,
  )


def test_accumulation_equals_the_whole_batch():
  batch = make_batch()
  batch['mask'][6:] = 0  # Micro-batches of unequal weight.
  state = make_state(SGD)
  whole, whole_metrics = jax.jit(make_step(NO_DROPOUT))(state, batch)
  parts, parts_metrics = jax.jit(make_step(NO_DROPOUT, accumulate=4))(
    state, batch
  )
  for name in whole_metrics:
    np.testing.assert_allclose(
      parts_metrics[name], whole_metrics[name], rtol=1e-5
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    parts.params,
    whole.params,
  )


def test_a_step_without_examples_only_counts():
  optimizer = optim.create('adam', constant, weight_decay=0.1, clip_norm=1.0)
  objective = steps.classification(
    Linear(), num_classes=3, loss='softmax', mixup=0.4
  )
  step = jax.jit(
    functools.partial(
      steps.make_train_step(
        objective,
        optimizer,
        constant,
        ema_decay=0.5,
        accumulate=2,
        may_lack_examples=True,
      ),
      seed=np.uint32(0),
    )
  )
  batch = linear_batch()
  state, _ = step(state_lib.create(LINEAR, optimizer, average=True), batch)
  for mask in ([0, 0, 0, 0], [1, 1, 0, 0]):  # The latter lack their partners.
    empty = batch | {'mask': np.float32(mask), 'image': 0 * batch['image']}
    new, metrics = step(state, empty)
    assert new.step == 2
    assert metrics['loss'] == metrics['accuracy'] == (0, 0)
    assert metrics['grad_norm'] == (0, 1)
    count = optax.tree.get_all_with_path(new.opt_state, 'count')
    assert sorted(int(c) for _, c in count) == [1, 2]  # Adam's; the schedule's.
    for name in ('params', 'ema_params'):
      jax.tree.map(
        np.testing.assert_array_equal, getattr(new, name), getattr(state, name)
      )
    for name in ('mu', 'nu'):
      jax.tree.map(
        np.testing.assert_array_equal,
        optax.tree.get(new.opt_state, name),
        optax.tree.get(state.opt_state, name),
      )
  # A micro-batch without examples has no effect on the other one.
  mask = np.float32([1, 0, 1, 0])
  half, metrics = step(state, batch | {'mask': mask})
  assert metrics['loss'][1] == 2
  assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(half.params))


def test_every_micro_batch_has_its_own_dropout():
  def objective(params, batch, key):
    loss = jax.random.uniform(key) * jnp.sum(params['w'])
    return loss, {'loss': (loss, jnp.ones(()))}

  step = make_step(objective=objective, accumulate=2)
  state = state_lib.create({'w': jnp.ones(1)}, SGD, average=False)
  _, metrics = jax.jit(step)(state, {'x': jnp.zeros(2)})
  key = randomness.stream_key(0, 'dropout', 0)
  draws = [jax.random.uniform(jax.random.fold_in(key, i)) for i in range(2)]
  assert draws[0] != draws[1]
  np.testing.assert_allclose(metrics['loss'][0], sum(draws), rtol=1e-6)


def test_dropout_follows_seed_and_step():
  batch = make_batch()
  state = make_state(SGD)
  step = jax.jit(make_step())
  loss = step(state, batch)[1]['loss'][0]
  assert loss == step(state, batch)[1]['loss'][0]
  later = state.replace(step=state.step + 1)
  assert loss != step(later, batch)[1]['loss'][0]
  assert loss != step(state, batch, seed=np.uint32(1))[1]['loss'][0]
  key = randomness.stream_key(0, 'dropout', 0)
  objective = steps.classification(MODEL, num_classes=3, loss='softmax')
  expected, _ = jax.jit(objective)(state.params, batch, key)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_average_follows_the_weights():
  state = make_state(SGD, average=True)
  new, _ = jax.jit(make_step(ema_decay=0.5))(state, make_batch())
  # At step 0 the ramp's decay is 1/10.
  jax.tree.map(
    lambda old, p, a: np.testing.assert_allclose(
      a, 0.1 * old + 0.9 * p, rtol=1e-4, atol=1e-6
    ),
    state.params,
    new.params,
    new.ema_params,
  )


def test_multi_label_targets():
  batch = make_batch()
  rows = np.zeros((8, 3), np.float32)
  rows[:, :2] = 1
  batch['label'] = rows
  objective = steps.classification(NO_DROPOUT, num_classes=3, loss='sigmoid')
  state = make_state(SGD)
  _, metrics = jax.jit(objective)(state.params, batch, jax.random.key(0))
  logits, _ = NO_DROPOUT.apply({'params': state.params}, batch['image'])
  expected = optax.sigmoid_binary_cross_entropy(logits, rows).sum()
  np.testing.assert_allclose(metrics['loss'][0], expected, rtol=1e-5)
  assert metrics['accuracy'][0] == np.sum(np.argmax(logits, -1) < 2)


def test_frozen_weights_get_no_gradient():
  objective = steps.classification(NO_DROPOUT, num_classes=3, loss='softmax')
  state = make_state(SGD)
  frozen = optim.is_frozen(state.params, '(?!head/).*')
  partly = steps.freeze(objective, frozen)
  grads, _ = jax.jit(jax.grad(partly, has_aux=True))(
    state.params, make_batch(), jax.random.key(0)
  )
  head = grads.pop('head')
  assert jnp.any(head['kernel'] != 0)
  assert not any(jnp.any(g != 0) for g in jax.tree.leaves(grads))


class Linear(nn.Module):
  """A model whose logits are a linear function of one pixel."""

  @nn.compact
  def __call__(self, images, *, train=False, tokens):
    return nn.Dense(3, name='head')(images[:, 0, 0]), {}


def linear_batch():
  rng = np.random.default_rng(0)
  return {
    'image': rng.normal(size=(4, 1, 1, 3)).astype(np.float32),
    'label': np.array([0, 1, 2, 2], np.int32),
    'mask': np.ones(4, np.float32),
  }


LINEAR = {
  'head': {
    'kernel': np.random.default_rng(1).normal(size=(3, 3)),
    'bias': np.zeros(3),
  }
}


# Partners of a batch of three, and the weight that a draw becomes.
MIXUPS = {
  'bit': ([2, 1, 0], lambda draw: draw),
  'augreg': ([2, 0, 1], lambda draw: max(draw, 1 - draw)),
}


def three(labels, *, missing=None):
  """Returns a batch of three, or of two and padding."""
  images = linear_batch()['image'][:3]
  if missing is not None:
    images[missing] = 0
  mask = np.float32(np.arange(3) != missing)
  return {'image': images, 'label': labels, 'mask': mask}


def expected_mixup(form, batch, key, *, sigmoid=False):
  """Returns the sum of losses and the number of examples with MixUp."""
  partners, weigh = MIXUPS[form]
  weight = weigh(float(jax.random.beta(jax.random.split(key)[1], 0.4, 0.4)))
  pixels, rows = batch['image'][:, 0, 0], batch['label']
  rows = rows if sigmoid else np.eye(3)[rows]
  pixels = weight * pixels + (1 - weight) * pixels[partners]
  rows = weight * rows + (1 - weight) * rows[partners]
  logits = pixels @ LINEAR['head']['kernel']
  if sigmoid:
    losses = rows * np.logaddexp(0, -logits)
    losses = losses + (1 - rows) * np.logaddexp(0, logits)
  else:
    losses = -rows * np.asarray(jax.nn.log_softmax(logits))
  mask = batch['mask'] * batch['mask'][partners]
  return np.sum(mask * losses.sum(-1)), mask.sum()


@functools.cache
def mixup_objective(form, loss='softmax'):
  return steps.classification(
    Linear(), num_classes=3, loss=loss, mixup=0.4, mixup_form=form
  )


# Draws of about 0.80 and 0.14.
@pytest.mark.parametrize('seed', [1, 4])
@pytest.mark.parametrize('form', MIXUPS)
def test_mixup_mixes_images_and_labels_with_partners(form, seed):
  batch, key = three(np.int32([0, 1, 2])), jax.random.key(seed)
  loss, _ = mixup_objective(form)(LINEAR, batch, key)
  expected, _ = expected_mixup(form, batch, key)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize('form', MIXUPS)
def test_mixup_mixes_rows_of_labels(form):
  rows = np.float32([[1, 1, 0], [0, 0, 0], [0, 1, 1]])
  batch, key = three(rows), jax.random.key(4)
  loss, _ = mixup_objective(form, 'sigmoid')(LINEAR, batch, key)
  expected, _ = expected_mixup(form, batch, key, sigmoid=True)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize(
  'form, missing, left',
  [('bit', 0, [1]), ('bit', 1, [0, 2]), ('augreg', 0, [2]), ('augreg', 1, [0])],
)
def test_mixup_drops_examples_whose_partner_is_padding(form, missing, left):
  batch, key = three(np.int32([0, 1, 2]), missing=missing), jax.random.key(1)
  loss, metrics = mixup_objective(form)(LINEAR, batch, key)
  expected, count = expected_mixup(form, batch, key)
  assert metrics['loss'][1] == count == len(left)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  partners, _ = MIXUPS[form]
  assert [i for i in range(3) if missing not in (i, partners[i])] == left


@pytest.mark.parametrize('form', MIXUPS)
def test_mixup_mixes_within_micro_batches(form):
  parts = [three(np.int32([0, 1, 2])), three(np.int32([2, 2, 0]), missing=2)]
  # Micro-batches take rows in turn.
  batch = jax.tree.map(
    lambda *x: np.stack(x, 1).reshape(6, *x[0].shape[1:]), *parts
  )
  step = make_step(objective=mixup_objective(form), accumulate=2)
  _, metrics = step(state_lib.create(LINEAR, SGD, average=False), batch)
  key = randomness.stream_key(0, 'dropout', 0)
  expected = [
    expected_mixup(form, part, jax.random.fold_in(key, i))
    for i, part in enumerate(parts)
  ]
  np.testing.assert_allclose(metrics['loss'], np.sum(expected, 0), rtol=1e-5)


def test_class_weights_scale_the_loss_of_each_example():
  batch = linear_batch()
  objective = steps.classification(
    Linear(),
    num_classes=3,
    loss='softmax',
    class_weights=jnp.array([1.0, 0.0, 3.0]),
  )
  loss, metrics = jax.jit(objective)(LINEAR, batch, jax.random.key(0))
  logits = batch['image'][:, 0, 0] @ LINEAR['head']['kernel']
  each = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
  np.testing.assert_allclose(loss, each[0] + 3 * each[2] + 3 * each[3], 1e-5)
  assert metrics['loss'][1] == 4
