"""Positions of every kind: told by the weights, fitted to other images."""

import numpy as np
import pytest

from vit_jax import checkpoints, models
from vit_jax.checkpoints import description, position_tables, surgery
from vit_jax.checkpoints.formats import official
import weights

SQUARE = (16, 16)
OPTIONS = [
  {},
  {'positions': 'none'},
  {'positions': '2d'},
  {'positions': 'relative'},
  {'positions_at': 'every_layer'},
  {'positions_at': 'every_layer_shared'},
  {'positions': '2d', 'positions_at': 'every_layer'},
  {'positions': '2d', 'positions_at': 'every_layer_shared'},
]
RESNET = {'stage_depths': (1, 1), 'width_factor': 0.5, 'num_classes': 4}


def fit(params, model, image_size, **options):
  adapted, report = checkpoints.adapt(
    params, model, image_size, head='keep', **options
  )
  return official.flatten(adapted), report


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('name', ['ViT-Ti/16', 'Axial-ViT-Ti/16'])
def test_weights_tell_what_their_model_is(name, options):
  model = weights.tiny(name, **options)
  params = weights.random_params(model)
  told = description.sizes(params)
  assert description.is_axial(params) == name.startswith('Axial')
  assert told == weights.SIZES | options | {
    'patch_size': (8, 8),
    'pool': model.pool,
  }
  assert models.create(name, num_classes=4, **told) == model


@pytest.mark.parametrize('options', OPTIONS)
def test_weights_tell_their_grid(options):
  params = weights.random_params(weights.tiny(**options), SQUARE)
  expected = None if options.get('positions') == 'none' else (2, 2)
  assert position_tables.grid(official.flatten(params)) == expected
  params = weights.random_params(weights.tiny(**options))  # 2x3 patches.
  expected = (2, 3) if options.get('positions') == '2d' else None
  assert position_tables.grid(official.flatten(params)) == expected


@pytest.mark.parametrize('place', ['every_layer', 'every_layer_shared'])
@pytest.mark.parametrize('kind', ['1d', '2d'])
def test_positions_of_all_layers_follow_the_image(kind, place):
  model = weights.tiny(positions=kind, positions_at=place)
  params = weights.random_params(model, SQUARE)
  old = official.flatten(params)
  new, report = fit(params, model, (24, 40))
  assert report.grids == ((2, 2), (3, 5))
  tables = {name for name in old if 'pos_embedding' in name}
  assert set(report.names('resized')) == tables
  layers = 2 if place == 'every_layer' else 1
  assert len(tables) == layers * (1 if kind == '1d' else 2)
  for name in tables:
    if kind == '1d':
      expected = surgery.resize_positions(
        old[name], (2, 2), (3, 5), class_slot=True
      )
    else:
      # Between two ends come one or three values, evenly.
      first, last = old[name]
      number = 3 if name.endswith('rows') else 5
      share = np.linspace(0, 1, number)[:, None]
      expected = first * (1 - share) + last * share
    np.testing.assert_allclose(new[name], expected, rtol=1e-5, atol=1e-6)
  assert 'Positions were resized from 2x2 to 3x5' in str(report)


def test_a_table_of_an_axis_that_stays_is_taken():
  model = weights.tiny(positions='2d')
  params = weights.random_params(model)
  _, report = fit(params, model, (24, 24))
  name = 'Transformer/posembed_input/pos_embedding_rows'
  assert report.names('resized') == [name]
  assert report.grids == ((2, 3), (3, 3))
  same, report = fit(params, model, weights.IMAGE_SIZE)
  weights.assert_same(official.unflatten(same), params)
  assert report.names('resized') == [] and report.grids is None


def test_offsets_in_a_raster_stay_in_theirs():
  model = weights.tiny(positions='relative')
  params = weights.random_params(model)
  same, report = fit(params, model, weights.IMAGE_SIZE)
  weights.assert_same(official.unflatten(same), params)
  assert report.names('resized') == []
  for image_size, raster in ((24, 24), '3x3'), ((24, 16), '3x2'):
    with pytest.raises(
      ValueError, match=f'a raster of 2x3 patches, .* in one of {raster}: use'
    ):
      fit(params, model, image_size, old_image_size=weights.IMAGE_SIZE)


@pytest.mark.parametrize('side_px, length', [(16, 4), (64, 16), (4, 1)])
def test_offsets_along_an_axis_keep_their_middle_and_their_ends(
  side_px, length
):
  model = models.create('AxialR50x1', **RESNET)
  params = weights.random_params(model, (32, 32))
  old = official.flatten(params)
  new, report = fit(params, model, (32, side_px))
  resized = report.names('resized')
  # Rows of 8 and 8 places; a column stays as it is.
  assert resized and all('/rows/' in name for name in resized)
  name = 'block1/unit1/rows/posembed_value/pos_embedding_offsets'
  table = old[name]
  assert len(table) == 15
  assert len(new[name]) == 2 * length - 1
  np.testing.assert_array_equal(new[name][length - 1], table[7])
  if length > 1:
    np.testing.assert_array_equal(new[name][[0, -1]], table[[0, -1]])
  if length == 4:
    # Every step of one is 7/3 of the old, so the third is 14/3 from the start.
    expected = table[4] / 3 + table[5] * 2 / 3
    np.testing.assert_allclose(new[name][2], expected, rtol=1e-5)


def test_positions_of_another_kind_are_an_error():
  params = weights.random_params(weights.tiny(positions='2d'))
  with pytest.raises(ValueError, match=r"missing.*of these.*positions='2d'"):
    fit(params, weights.tiny(), weights.IMAGE_SIZE)
  axial = weights.random_params(weights.tiny('Axial-ViT-Ti/16'))
  with pytest.raises(ValueError, match='missing.* weights, with axial att'):
    fit(axial, weights.tiny(pool='gap'), weights.IMAGE_SIZE)


@pytest.mark.parametrize('options', OPTIONS[1:])
def test_others_have_no_place_for_such_models(options, tmp_path):
  params = weights.random_params(weights.tiny(**options))
  for name in ('a.safetensors', 'b.npz'):
    format = 'big_vision' if name == 'b.npz' else None
    with pytest.raises(ValueError, match='no place for positions'):
      checkpoints.export(params, tmp_path / name, format=format)
  axial = weights.random_params(weights.tiny('Axial-ViT-Ti/16'))
  with pytest.raises(ValueError, match='along rows and columns'):
    checkpoints.export(axial, tmp_path / 'b.npz', format='big_vision')


def test_positions_that_other_code_computes_are_not_left_out(tmp_path):
  params = weights.random_params(weights.tiny(positions='none'))
  flat = official.flatten(params)
  np.savez(
    tmp_path / 'sines.npz', **{f'params/{name}': x for name, x in flat.items()}
  )
  with pytest.raises(ValueError, match='sines.npz: there are no position emb'):
    checkpoints.load(tmp_path / 'sines.npz')
  checkpoints.export(params, tmp_path / 'ours.npz')
  weights.assert_same(checkpoints.load(tmp_path / 'ours.npz'), params)
