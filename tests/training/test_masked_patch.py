"""The objective of masked patch prediction, and its training step on a mesh."""

import functools
import json
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import runs
from vit_jax import models
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.models import patch_predictor
from vit_jax.training import patch_targets, randomness, steps
from vit_jax.training import state as state_lib

B, N, RATE = 8, 16, 0.5
M = 8  # Corrupted patches per image.


def make_model(target, dropout=0.0):
  encoder = models.create(
    'ViT-Ti/2',
    num_classes=0,
    depth=1,
    width=16,
    mlp_dim=16,
    heads=2,
    dropout=dropout,
  )
  outputs = patch_targets.TARGETS[target].num_outputs((2, 2))
  return patch_predictor.MaskedPatchPredictor(encoder, outputs)


def make_objective(target, **kwargs):
  return patch_targets.objective(
    make_model(target, **kwargs), patch_targets.TARGETS[target], rate=RATE
  )


def make_batch():
  rng = np.random.default_rng(0)
  return {
    'image': rng.uniform(-1, 1, (B, 8, 8, 3)).astype(np.float32),
    'label': np.zeros(B, np.int32),
    'mask': np.ones(B, np.float32),
  }


@functools.cache
def make_params(target):
  """Random weights; zeros would hide the effect of mask token and head."""

  @jax.jit
  def init():
    params = make_model(target).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    keys = iter(jax.random.split(jax.random.key(1), 99))
    return jax.tree.map(
      lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape),
      params['params'],
    )

  return init()


KEY = jax.random.key(5)


@jax.jit
def drawn():
  keys = jax.random.split(randomness.branch(KEY, 'corruption'), B)
  return patch_targets.draw(keys, N, RATE)


@pytest.mark.parametrize('target', list(patch_targets.TARGETS))
def test_sums_are_over_the_corrupted_patches_of_real_images(target):
  params, batch = make_params(target), make_batch()
  batch['mask'][5:] = 0
  loss, metrics = jax.jit(make_objective(target))(params, batch, KEY)

  chosen = patch_targets.TARGETS[target]
  corruption = drawn()
  apply = jax.jit(functools.partial(make_model(target).apply, train=True))
  predictions = apply({'params': params}, batch['image'], corruption)
  patches = np.asarray(patch_targets.cut(batch['image'], (4, 4)))
  originals = np.stack([patches[i, corruption.positions[i]] for i in range(5)])
  expected = float(np.sum(jax.jit(chosen.losses)(predictions[:5], originals)))
  right = chosen.colours(predictions[:5]) == chosen.true_colours(originals)
  correct = int(np.sum(right))
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(metrics['loss'], (expected, 5 * M), rtol=1e-5)
  colours = 16 if target == 'downsized' else 1
  assert metrics['accuracy'] == (correct, 5 * M * colours)


@pytest.mark.parametrize('target', list(patch_targets.TARGETS))
def test_no_gradient_for_predictions_of_uncorrupted_patches(target):
  params, batch = make_params(target), make_batch()
  objective = make_objective(target)

  def loss(change):
    def intercept(call, args, kwargs, context):
      result = call(*args, **kwargs)
      last = context.module.name == 'encoder_norm'
      return result + change if last else result

    with nn.intercept_methods(intercept):
      return objective(params, batch, KEY)[0]

  # The input of the prediction head: class token, then patches.
  gradient = jax.jit(jax.grad(loss))(jnp.zeros((B, 1 + N, 16)))
  corrupted = drawn().kind != patch_predictor.UNTOUCHED
  assert not np.any(gradient[:, 0])
  assert not np.any(gradient[:, 1:][~corrupted])
  assert np.all(np.any(gradient[:, 1:][corrupted] != 0, axis=-1))


def test_untrained_loss_is_that_of_a_uniform_guess():
  params = make_model('mean_colour').init(
    jax.random.key(0), jnp.zeros((1, 8, 8, 3))
  )['params']
  _, metrics = jax.jit(make_objective('mean_colour'))(params, make_batch(), KEY)
  total, count = metrics['loss']
  np.testing.assert_allclose(total / count, np.log(512), rtol=1e-6)


def test_mask_token_and_donors_are_learned():
  grads, _ = jax.jit(jax.grad(make_objective('mean_colour'), has_aux=True))(
    make_params('mean_colour'), make_batch(), KEY
  )
  for leaf in jax.tree.leaves(grads):
    assert np.all(np.isfinite(leaf))
  assert np.any(grads['mask_token'])


def make_step():
  step = steps.make_train_step(
    make_objective('mean_colour'), optax.sgd(0.1), lambda step: jnp.asarray(0.1)
  )
  return functools.partial(step, seed=np.uint32(0))


def make_state():
  params = make_params('mean_colour')
  return state_lib.create(params, optax.sgd(0.1), average=False)


def test_corruption_follows_seed_and_step():
  step, state = jax.jit(make_step()), make_state()
  loss = step(state, make_batch())[1]['loss'][0]
  assert loss == step(state, make_batch())[1]['loss'][0]
  later = state.replace(step=state.step + 1)
  assert loss != step(later, make_batch())[1]['loss'][0]


def one_step(devices):
  """Returns loss, accuracy and weights after a step on a mesh."""
  mesh = mesh_lib.create(devices)
  state = jax.device_put(make_state(), mesh_lib.replicated(mesh))
  step = jax.jit(make_step(), out_shardings=mesh_lib.replicated(mesh))
  new, metrics = step(state, mesh_lib.put_batch(make_batch(), mesh))
  metrics = {name: float(metrics[name][0]) for name in ('loss', 'accuracy')}
  return metrics, jax.device_get(new.params)


def compare_devices():
  """Returns the differences between a step on 1 and on 8 devices."""
  (one, params), (eight, others) = one_step(1), one_step(8)

  def distance(a, b):
    return max(
      jax.tree.leaves(jax.tree.map(lambda x, y: np.abs(x - y).max(), a, b))
    )

  return {
    'loss': abs(one['loss'] - eight['loss']) / one['loss'],
    'accuracy': abs(one['accuracy'] - eight['accuracy']),
    'weights': float(distance(params, others)),
    'moved': float(distance(params, make_params('mean_colour'))),
  }


def test_a_step_on_eight_devices_equals_one_on_a_single_device():
  script = (
    'import json, test_masked_patch as test\n'
    'print(json.dumps(test.compare_devices()))'
  )
  output = subprocess.run(
    [sys.executable, '-c', script],
    cwd=runs.ROOT,
    env=os.environ
    | {'JAX_NUM_CPU_DEVICES': '8', 'PYTHONPATH': 'tests:tests/training'},
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  found = json.loads(output)
  assert found['loss'] < 1e-6
  assert found['accuracy'] == 0
  assert found['weights'] < 1e-6
  assert found['moved'] > 1e-3
