"""Fitting weights to a model: heads, positions and reported mismatches."""

import logging

import jax
import numpy as np
import pytest

from vit_jax import checkpoints, models
from vit_jax.checkpoints import position_tables
import weights

SQUARE = (16, 16)


def fit(params, model, image_size=weights.IMAGE_SIZE, **options):
  return checkpoints.adapt(params, model, image_size, **options)


def without(params, *parts):
  return {name: x for name, x in params.items() if name not in parts}


def test_whole_head_is_replaced_by_default():
  params = weights.random_params(weights.tiny(representation_size=5))
  model = weights.tiny(num_classes=7, head_bias=-10.0)
  adapted, report = fit(params, model)
  initial = {
    'head': {'kernel': np.zeros((12, 7), 'f4'), 'bias': np.full(7, -10, 'f4')}
  }
  weights.assert_same(adapted, without(params, 'head', 'pre_logits') | initial)
  assert report.names('initialized') == ['head/bias', 'head/kernel']
  assert set(report.names('dropped')) == {
    'head/bias',
    'head/kernel',
    'pre_logits/bias',
    'pre_logits/kernel',
  }
  assert report.names('resized') == []
  assert len(report.names('loaded')) == 38
  images = weights.random_images()
  assert (weights.logits_of(model, adapted, images) == -10).all()


def test_hidden_layer_can_be_kept():
  params = weights.random_params(weights.tiny(representation_size=5))
  model = weights.tiny(num_classes=7, representation_size=5)
  adapted, report = fit(params, model, head='keep_pre_logits')
  weights.assert_same(without(adapted, 'head'), without(params, 'head'))
  assert adapted['head']['kernel'].shape == (5, 7)
  assert not adapted['head']['kernel'].any()
  assert 'pre_logits/kernel' in report.names('loaded')


@pytest.mark.parametrize('representation_size', [None, 5])
def test_trained_head_can_be_kept(representation_size):
  model = weights.tiny(representation_size=representation_size)
  params = weights.random_params(model)
  adapted, report = fit(params, model, head='keep')
  weights.assert_same(adapted, params)
  assert {row.status for row in report.rows} == {'loaded'}


def test_model_without_head_gets_none():
  params = weights.random_params(weights.tiny())
  adapted, report = fit(params, weights.tiny(num_classes=0))
  weights.assert_same(adapted, without(params, 'head'))
  assert report.names('initialized') == []


def test_parts_of_other_objectives_are_dropped():
  params = weights.random_params(weights.tiny())
  others = {
    'mask_token': np.ones((1, 1, 12), 'f4'),
    'patch_head': {'kernel': np.ones((12, 512), 'f4')},
  }
  adapted, report = fit(params | others, weights.tiny(), head='keep')
  weights.assert_same(adapted, params)
  assert report.names('dropped') == ['mask_token', 'patch_head/kernel']


@pytest.mark.parametrize('pool', ['token', 'gap'])
def test_positions_are_resized_to_the_image(pool):
  model = weights.tiny(pool=pool)
  params = weights.random_params(model, SQUARE)
  adapted, report = fit(params, model, (24, 40), head='keep')
  name = 'Transformer/posembed_input/pos_embedding'
  old = params['Transformer']['posembed_input']['pos_embedding']
  new = adapted['Transformer']['posembed_input']['pos_embedding']
  np.testing.assert_array_equal(
    new,
    position_tables.resize_grid(
      old, (2, 2), (3, 5), class_slot=pool == 'token'
    ),
  )
  slots = int(pool == 'token')
  assert new.shape == (1, slots + 15, 12)
  np.testing.assert_array_equal(new[:, 0], old[:, 0])  # Class token or corner.
  assert report.names('resized') == [name]
  assert report.grids == ((2, 2), (3, 5))


def test_positions_that_do_not_form_a_square():
  model = weights.tiny()
  params = weights.random_params(model)  # 2x3 patches.
  with pytest.raises(ValueError, match=r'for 6 patches.*pass old_image_size='):
    fit(params, model, (24, 24))
  adapted, report = fit(params, model, (24, 24), old_image_size=(16, 24))
  assert report.grids == ((2, 3), (3, 3))
  # An equal number implies the same grid, unless old_image_size says otherwise.
  same, report = fit(params, model, head='keep')
  weights.assert_same(same, params)
  turned, report = fit(params, model, (24, 16), old_image_size=(16, 24))
  assert report.grids == ((2, 3), (3, 2))
  with pytest.raises(ValueError, match='got 7 position embeddings.*2x2'):
    fit(params, model, (24, 24), old_image_size=SQUARE)


def test_square_number_implies_a_square_grid_by_default():
  model = weights.tiny()
  params = weights.random_params(model, (8, 32))  # 1x4 patches, like 2x2.
  _, report = fit(params, model, (8, 32))
  assert report.grids == ((2, 2), (1, 4))
  adapted, report = fit(
    params, model, (8, 32), head='keep', old_image_size=(8, 32)
  )
  weights.assert_same(adapted, params)


def test_hybrids_and_resnets():
  hybrid = weights.tiny(
    'R50+ViT-B/16', patch_size=1, stage_depths=(1, 1), width_factor=0.5
  )
  params = weights.random_params(hybrid, (32, 32))
  _, report = fit(params, hybrid, (32, 64))
  assert report.grids == ((4, 4), (4, 8))
  resnet = models.create(
    'R50x1', num_classes=3, stage_depths=(1, 2), width_factor=0.5
  )
  params = weights.random_params(resnet, (32, 32))
  adapted, report = fit(params, resnet, (64, 64))
  weights.assert_same(without(adapted, 'head'), without(params, 'head'))
  deeper = weights.random_params(
    models.create('R50x1', num_classes=3, stage_depths=(1, 3), width_factor=0.5)
  )
  with pytest.raises(ValueError, match=r"'block2/unit3/conv1/.* has no place"):
    fit(deeper, resnet, (64, 64))


def test_missing_parameter_is_refused():
  params = weights.random_params(weights.tiny())
  del params['embedding']
  with pytest.raises(
    ValueError,
    match=r"^B_16\.npz does not.*'embedding/bias' of shape \(12,\) is missing",
  ):
    fit(params, weights.tiny(), source='B_16.npz')


def test_other_width_is_refused_with_both_shapes():
  params = weights.random_params(weights.tiny())
  with pytest.raises(
    ValueError,
    match=(
      r"'Transformer/encoder_norm/bias' has the shape \(12,\) in the checkpoint"
      r' and \(24,\) in the model;.* more. Create .*: depth=2, width=12,'
    ),
  ):
    fit(params, weights.tiny(width=24))


def test_other_depth_is_refused_both_ways():
  shallow, deep = weights.tiny(), weights.tiny(depth=3)
  with pytest.raises(
    ValueError, match="'Transformer/encoderblock_2/.* missing"
  ):
    fit(weights.random_params(shallow), deep)
  with pytest.raises(ValueError, match='encoderblock_2/.* has no place in the'):
    fit(weights.random_params(deep), shallow)


def test_error_shows_the_shape_of_positions_before_resizing():
  params = weights.random_params(weights.tiny(), SQUARE)
  wide = weights.random_params(weights.tiny(width=24), SQUARE)
  name = 'posembed_input'
  params['Transformer'][name] = wide['Transformer'][name]
  with pytest.raises(ValueError, match=r'has the shape \(1, 5, 24\) in the ch'):
    fit(params, weights.tiny(), (24, 24))


@pytest.mark.parametrize(
  'theirs, ours, head, message',
  [
    ({'pool': 'gap'}, {}, 'replace', "only the model has .*'cls'.*pool='gap'"),
    (
      {},
      {'pool': 'gap'},
      'keep',
      "only the check.*'cls'.*pool='token'",
    ),
    ({}, {'representation_size': 5}, 'replace', "head='keep_pre_logits'"),
    ({}, {'representation_size': 5}, 'keep_pre_logits', "bias'.* missing"),
    (
      {'representation_size': 5},
      {},
      'keep_pre_logits',
      r"'pre_logits/bias' of shape \(5,\) has no place",
    ),
    ({'representation_size': 5}, {}, 'keep', "'pre_logits/bias' .* no place"),
    (
      {'num_classes': 9},
      {},
      'keep',
      r"'head/bias' has the shape \(9,\) in the .* and \(4,\) in the model",
    ),
    ({'num_classes': 0}, {}, 'keep', "'head/bias' of shape .4,. is missing"),
    ({}, {'num_classes': 0}, 'keep', "'head/bias' .* has no place"),
    ({}, {}, 'copy', "head='copy' is not one of replace, keep_pre_logits"),
  ],
)
def test_mismatches_are_refused(theirs, ours, head, message):
  params = weights.random_params(weights.tiny(**theirs))
  with pytest.raises(ValueError, match=message):
    fit(params, weights.tiny(**ours), head=head)


def test_report_lists_every_parameter():
  params = weights.random_params(weights.tiny(representation_size=5), SQUARE)
  model = weights.tiny(num_classes=7)
  adapted, report = fit(params, model, (24, 24))
  old = [row.name for row in report.rows if row.old_shape]
  new = [row.name for row in report.rows if row.new_shape]
  for names, tree in ((old, params), (new, adapted)):
    leaves = jax.tree.leaves_with_path(tree)
    assert sorted(names) == sorted(
      jax.tree_util.keystr(path, simple=True, separator='/')
      for path, _ in leaves
    )


def test_table(caplog):
  params = weights.random_params(weights.tiny(), SQUARE)
  with caplog.at_level(logging.INFO):
    _, report = fit(
      params, weights.tiny(num_classes=7), (24, 24), source='B.npz'
    )
  lines = str(report).splitlines()
  cells = [line.split(maxsplit=3) for line in lines]
  assert cells[0] == ['parameter', 'count', 'status', 'checkpoint     model']
  assert [
    'Transformer/encoderblock_*/MlpBlock_0/Dense_0/kernel',
    '2',
    'loaded',
    '(12, 20)       (12, 20)',
  ] in cells
  assert lines[-4].split() == ['head/bias', '1', 'dropped', '(4,)', '-']
  assert lines[-2:] == [
    '37 loaded, 1 resized, 2 initialized, 2 dropped.',
    'Positions were resized from 2x2 to 3x3 patches (bilinear).',
  ]
  assert f'weights of B.npz:\n{report}' in caplog.text
