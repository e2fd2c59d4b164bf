"""Exact evaluation of masked patch prediction."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.evaluation import patch_accuracy
from vit_jax.models import masked_patch as model_lib
from vit_jax.training import patch_targets

NUM, SIDE = 21, 8
ENCODER = models.create(
  'ViT-Ti/2', num_classes=0, depth=1, width=16, mlp_dim=16, heads=2
)
IMAGES = (
  np.random.default_rng(0)
  .uniform(-1, 1, (NUM, SIDE, SIDE, 3))
  .astype(np.float32)
)
IMAGES[:, :2] = 1.0  # 4 of 16 patches are white.


def batches(size):
  for first in range(0, NUM, size):
    index = np.arange(first, first + size)
    real = index < NUM
    index = np.where(real, index, -1)
    image = IMAGES[index] * real[:, None, None, None].astype(np.float32)
    yield {
      'image': image,
      'label': np.zeros(size, np.int32),
      'mask': real.astype(np.float32),
      'index': index,
    }


@functools.cache
def build(target):
  objective = patch_targets.TARGETS[target]
  model = model_lib.MaskedPatchPredictor(ENCODER, objective.num_outputs((2, 2)))

  @jax.jit
  def init():
    params = model.init(jax.random.key(0), IMAGES[:1])['params']
    keys = iter(jax.random.split(jax.random.key(1), 99))
    return jax.tree.map(
      lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), params
    )

  step = patch_accuracy.make_eval_step(model, objective, rate=0.5, seed=3)
  return model, objective, init(), jax.jit(step)


def put(batch):
  return {name: jnp.asarray(rows) for name, rows in batch.items()}


@pytest.mark.parametrize('target', list(patch_targets.TARGETS))
def test_batch_size_and_padding_have_no_effect(target):
  *_, params, step = build(target)
  found = [
    patch_accuracy.evaluate(step, params, batches(size), put)
    for size in (4, NUM)
  ]
  parts, whole = found
  np.testing.assert_allclose(parts.pop('loss'), whole.pop('loss'), rtol=1e-6)
  assert parts == whole


@pytest.mark.parametrize('target', list(patch_targets.TARGETS))
def test_metrics_against_numpy(target):
  model, objective, params, step = build(target)
  found = patch_accuracy.evaluate(step, params, batches(4), put)
  corruption = jax.jit(
    lambda: patch_accuracy.draw_corruption(3, jnp.arange(NUM), 16, 0.5)
  )()
  predictions = jax.jit(model.apply)({'params': params}, IMAGES, corruption)
  patches = np.asarray(patch_targets.cut(IMAGES, (4, 4)))
  corrupted = np.stack(
    [patches[i, at] for i, at in enumerate(corruption.positions)]
  )
  true = np.asarray(objective.true_colours(corrupted))
  np.testing.assert_allclose(
    found['loss'], np.mean(objective.losses(predictions, corrupted)), rtol=1e-5
  )
  assert found['accuracy'] == np.mean(objective.colours(predictions) == true)
  counts = np.bincount(true.ravel(), minlength=512)
  assert counts.argmax() == 511
  assert found['baseline_accuracy'] == counts.max() / true.size
  assert 0.15 < found['baseline_accuracy'] < 0.35


def test_corruption_is_a_function_of_seed_and_index():
  @jax.jit
  def kinds(seed, index):
    index = jnp.asarray(index)
    return patch_accuracy.draw_corruption(seed, index, 16, 0.5).kind

  np.testing.assert_array_equal(kinds(0, [4, 7, 9])[1:], kinds(0, [7, 9]))
  assert np.any(kinds(0, [4]) != kinds(0, [5]))
  assert np.any(kinds(0, [4]) != kinds(1, [4]))
