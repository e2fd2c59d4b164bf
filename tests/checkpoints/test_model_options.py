"""Poolings, registers and fixed positions in checkpoints of this project."""

import json

import numpy as np
import pytest

from vit_jax import checkpoints, models
from vit_jax.checkpoints import description
from vit_jax.checkpoints.formats import official
import weights

RECORDED = {
  'positions': {'positions': 'sincos2d'},
  'pool': {'pool': 'gap', 'class_token': True},
}


@pytest.mark.parametrize(
  'options',
  [
    {'pool': 'map', 'registers': 3},
    {'pool': 'map', 'class_token': True},
    {'pool': 'gap_norm'},
    {'pool': 'gap_norm', 'class_token': True, 'registers': 1},
    {'pool': 'token', 'registers': 2},
  ],
)
def test_weights_determine_the_options(options):
  model = weights.tiny(**options)
  sizes = description.sizes(weights.random_params(model))
  assert sizes == weights.SIZES | options | {'patch_size': (8, 8)}
  assert models.create('ViT-Ti/16', num_classes=4, **sizes) == model


def save_run(folder, params, **keys):
  """Writes the weights and part of the config of a run."""
  checkpoints.export(params, folder / 'final.npz')
  config = {f'model.{name}': value for name, value in keys.items()}
  (folder / 'config.json').write_text(json.dumps(config))


@pytest.mark.parametrize('name', RECORDED)
def test_options_without_weights_are_recorded_by_the_run(name, tmp_path):
  model = weights.tiny(**RECORDED[name])
  params = weights.random_params(model)
  save_run(tmp_path, params, **RECORDED[name])
  loaded, found = checkpoints.load_with_description(tmp_path / 'final.npz')
  weights.assert_same(loaded, params)
  assert models.create('ViT-Ti/16', num_classes=4, **found.overrides) == model
  # Without the record, shapes imply other options.
  assert found.sizes != description.sizes(params)


@pytest.mark.parametrize(
  ('ours', 'recorded', 'message'),
  [
    ({}, RECORDED['positions'], "positions='sincos2d'.*for positions='1d'"),
    ({'pool': 'map'}, RECORDED['pool'], "pool='gap'.*for pool='map'"),
  ],
)
def test_a_record_of_other_weights_is_refused(
  ours, recorded, message, tmp_path
):
  save_run(tmp_path, weights.random_params(weights.tiny(**ours)), **recorded)
  with pytest.raises(ValueError, match=f'config.json specifies {message}'):
    checkpoints.load(tmp_path / 'final.npz')


NORM = {f'Transformer/encoder_norm/{leaf}' for leaf in ('scale', 'bias')}
FC_NORM = {'fc_norm/scale', 'fc_norm/bias'}
POOLING = {
  name
  for name in official.flatten(weights.random_params(weights.tiny(pool='map')))
  if name.startswith('MAPHead_0/')
}


@pytest.mark.parametrize(
  ('old', 'new', 'dropped', 'initialized'),
  [
    ('gap', 'gap_norm', NORM, FC_NORM),  # Fine-tuning of MAE.
    ('gap_norm', 'gap', FC_NORM, NORM),
    ('gap', 'map', set(), POOLING),
    ('map', 'gap_norm', NORM | POOLING, FC_NORM),
  ],
)
def test_a_new_head_may_have_a_new_pooling(old, new, dropped, initialized):
  params = weights.random_params(weights.tiny(pool=old))
  model = weights.tiny(pool=new)
  adapted, report = checkpoints.adapt(params, model, weights.IMAGE_SIZE)
  head = {'head/kernel', 'head/bias'}
  assert set(report.names('dropped')) == dropped | head
  assert set(report.names('initialized')) == initialized | head
  for name in initialized & {'fc_norm/scale', 'Transformer/encoder_norm/scale'}:
    assert np.all(official.flatten(adapted)[name] == 1)
  for head in ('keep', 'keep_pre_logits'):
    with pytest.raises(ValueError, match='is missing|has no place'):
      checkpoints.adapt(params, model, weights.IMAGE_SIZE, head=head)


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ({'registers': 2}, {}, "'registers' of shape .* no place.*registers=2"),
    ({}, {'registers': 2}, "'registers' of shape .* is missing"),
    ({'registers': 2}, {'registers': 1}, r'\(1, 2, 12\) in the checkpoint'),
    (
      {'positions': '2d'},
      {'positions': '2d', 'pool': 'gap'},
      "'cls' of shape .* no place",
    ),
    (
      {},
      {'pool': 'gap'},
      "pool='token' or class_token=True",
    ),
  ],
)
def test_no_tokens_are_dropped_or_added(old, new, message):
  params = weights.random_params(weights.tiny(**old))
  with pytest.raises(ValueError, match=message):
    checkpoints.adapt(params, weights.tiny(**new), weights.IMAGE_SIZE)


def test_a_missing_last_norm_is_not_initialized():
  params = weights.random_params(weights.tiny())
  del params['Transformer']['encoder_norm']
  with pytest.raises(ValueError, match='encoder_norm/scale.* is missing'):
    checkpoints.adapt(params, weights.tiny(), weights.IMAGE_SIZE)
