"""Position embeddings of every kind: detection and resizing."""

import numpy as np
import pytest

from vit_jax import checkpoints, models
from vit_jax.checkpoints import description, position_tables
from vit_jax.checkpoints.formats import official, timm
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


def test_row_of_two_becomes_a_row_of_three():
  positions = np.array([[[9.0], [0.0], [4.0]]], 'f4')
  resized = position_tables.resize_grid(
    positions, (1, 2), (1, 3), class_slot=True
  )
  np.testing.assert_array_equal(resized, [[[9.0], [0.0], [2.0], [4.0]]])
  assert resized.dtype == np.float32


def test_rows_and_columns_are_distinguished():
  # 10 r + c at row r and column c is bilinear, and so is its interpolation.
  rows, columns = np.mgrid[0:3, 0:2]
  positions = (10.0 * rows + columns).reshape(1, -1, 1).astype('f4')
  resized = position_tables.resize_grid(
    positions, (3, 2), (2, 5), class_slot=False
  )
  expected = [[0, 0.25, 0.5, 0.75, 1], [20, 20.25, 20.5, 20.75, 21]]
  np.testing.assert_allclose(resized.reshape(2, 5), expected, rtol=1e-6)


def test_equal_grid_changes_no_bit():
  rng = np.random.default_rng(0)
  positions = rng.normal(size=(1, 7, 3)).astype('f4')
  positions[0, 3] = -0.0
  same = position_tables.resize_grid(positions, (2, 3), (2, 3), class_slot=True)
  weights.assert_same({'p': same}, {'p': positions})


def test_single_patch_is_the_first_one():
  positions = np.arange(4, dtype='f4').reshape(1, 4, 1)
  one = position_tables.resize_grid(positions, (2, 2), (1, 1), class_slot=False)
  assert one.tolist() == [[[0.0]]]
  many = position_tables.resize_grid(one + 5, (1, 1), (2, 2), class_slot=False)
  assert many.ravel().tolist() == [5, 5, 5, 5]


def test_number_must_match_the_grid():
  with pytest.raises(
    ValueError, match='5 position embeddings, .*2x2 patches.$'
  ):
    position_tables.resize_grid(
      np.zeros((1, 5, 1)), (2, 2), (3, 3), class_slot=False
    )


def fit(params, model, image_size, **options):
  adapted, report = checkpoints.adapt(
    params, model, image_size, head='keep', **options
  )
  return official.flatten(adapted), report


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('name', ['ViT-Ti/16', 'Axial-ViT-Ti/16'])
def test_weights_determine_the_options_of_their_model(name, options):
  model = weights.tiny(name, **options)
  params = weights.random_params(model)
  sizes = description.sizes(params)
  assert description.is_axial(params) == name.startswith('Axial')
  assert sizes == weights.SIZES | options | {
    'patch_size': (8, 8),
    'pool': model.pool,
  }
  assert models.create(name, num_classes=4, **sizes) == model


@pytest.mark.parametrize('options', OPTIONS)
def test_weights_determine_their_grid(options):
  params = weights.random_params(weights.tiny(**options), SQUARE)
  expected = None if options.get('positions') == 'none' else (2, 2)
  assert position_tables.grid(official.flatten(params)) == expected
  params = weights.random_params(weights.tiny(**options))  # 2x3 patches.
  expected = (2, 3) if options.get('positions') == '2d' else None
  assert position_tables.grid(official.flatten(params)) == expected


@pytest.mark.parametrize('place', ['every_layer', 'every_layer_shared'])
@pytest.mark.parametrize('kind', ['1d', '2d'])
def test_positions_of_all_layers_are_resized(kind, place):
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
      expected = position_tables.resize_grid(
        old[name], (2, 2), (3, 5), class_slot=True
      )
    else:
      # One or three evenly spaced values between two ends.
      first, last = old[name]
      number = 3 if name.endswith('rows') else 5
      share = np.linspace(0, 1, number)[:, None]
      expected = first * (1 - share) + last * share
    np.testing.assert_allclose(new[name], expected, rtol=1e-5, atol=1e-6)
  assert 'Positions were resized from 2x2 to 3x5' in str(report)


def test_table_of_an_unchanged_axis_is_loaded():
  model = weights.tiny(positions='2d')
  params = weights.random_params(model)
  _, report = fit(params, model, (24, 24))
  name = 'Transformer/posembed_input/pos_embedding_rows'
  assert report.names('resized') == [name]
  assert report.grids == ((2, 3), (3, 3))
  same, report = fit(params, model, weights.IMAGE_SIZE)
  weights.assert_same(official.unflatten(same), params)
  assert report.names('resized') == [] and report.grids is None


def test_offsets_in_raster_order_cannot_be_resized():
  model = weights.tiny(positions='relative')
  params = weights.random_params(model)
  same, report = fit(params, model, weights.IMAGE_SIZE)
  weights.assert_same(official.unflatten(same), params)
  assert report.names('resized') == []
  for image_size, grid in ((24, 24), '3x3'), ((24, 16), '3x2'):
    with pytest.raises(
      ValueError, match=f'grid of 2x3 patches, .* not apply to {grid}; use'
    ):
      fit(params, model, image_size, old_image_size=weights.IMAGE_SIZE)


@pytest.mark.parametrize('side_px, length', [(16, 4), (64, 16), (4, 1)])
def test_resized_offsets_along_an_axis_keep_middle_and_ends(side_px, length):
  model = models.create('AxialR50x1', **RESNET)
  params = weights.random_params(model, (32, 32))
  old = official.flatten(params)
  new, report = fit(params, model, (32, side_px))
  resized = report.names('resized')
  # Rows and columns have 8 tokens; columns are unchanged.
  assert resized and all('/rows/' in name for name in resized)
  name = 'block1/unit1/rows/posembed_value/pos_embedding_offsets'
  table = old[name]
  assert len(table) == 15
  assert len(new[name]) == 2 * length - 1
  np.testing.assert_array_equal(new[name][length - 1], table[7])
  if length > 1:
    np.testing.assert_array_equal(new[name][[0, -1]], table[[0, -1]])
  if length == 4:
    # A step is 7/3 of an old one, so the third entry is at 14/3.
    expected = table[4] / 3 + table[5] * 2 / 3
    np.testing.assert_allclose(new[name][2], expected, rtol=1e-5)


def test_positions_of_another_kind_are_refused():
  params = weights.random_params(weights.tiny(positions='2d'))
  with pytest.raises(ValueError, match=r"missing.*for these.*positions='2d'"):
    fit(params, weights.tiny(), weights.IMAGE_SIZE)
  axial = weights.random_params(weights.tiny('Axial-ViT-Ti/16'))
  with pytest.raises(ValueError, match='missing.* weights, with axial att'):
    fit(axial, weights.tiny(pool='gap'), weights.IMAGE_SIZE)


@pytest.mark.parametrize('options', OPTIONS[1:])
def test_other_formats_cannot_hold_these_models(options, tmp_path):
  params = weights.random_params(weights.tiny(**options))
  for name in ('a.safetensors', 'b.npz'):
    format = 'big_vision' if name == 'b.npz' else None
    with pytest.raises(ValueError, match='cannot store positions'):
      checkpoints.export(params, tmp_path / name, format=format)
  axial = weights.random_params(weights.tiny('Axial-ViT-Ti/16'))
  with pytest.raises(ValueError, match='along rows and columns'):
    checkpoints.export(axial, tmp_path / 'b.npz', format='big_vision')


def test_other_formats_with_computed_positions_are_refused(tmp_path):
  params = weights.random_params(weights.tiny(positions='none'))
  safetensors = pytest.importorskip('safetensors.numpy')
  path = tmp_path / 'sines.safetensors'
  tensors = timm.to_tensors(params)
  safetensors.save_file(
    {k: np.ascontiguousarray(v) for k, v in tensors.items()}, path
  )
  with pytest.raises(ValueError, match='there are no position emb'):
    checkpoints.load(path, heads=3)
  checkpoints.export(params, tmp_path / 'ours.npz')
  weights.assert_same(checkpoints.load(tmp_path / 'ours.npz'), params)


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize(
  ('old', 'new'),
  [((14, 14), (24, 24)), ((16, 16), (9, 20)), ((2, 3), (1, 7))],
)
def test_bicubic_is_that_of_torch(old, new, antialias):
  torch = pytest.importorskip('torch')
  rng = np.random.default_rng(0)
  table = rng.normal(size=(1, 1 + old[0] * old[1], 5)).astype('f4')
  patches = torch.from_numpy(table[:, 1:]).reshape(1, *old, 5)
  expected = torch.nn.functional.interpolate(
    patches.permute(0, 3, 1, 2),
    size=new,
    mode='bicubic',
    align_corners=False,
    antialias=antialias,
  )
  found = position_tables.resize_grid(
    table, old, new, True, 'bicubic' + '_antialias' * antialias
  )
  np.testing.assert_array_equal(found[:, 0], table[:, 0])
  expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 5)
  np.testing.assert_allclose(found[:, 1:], expected, atol=1e-5)


def test_bicubic_by_hand():
  values = np.array([0, 0, 1, 0, 0, 0], 'f4')
  # New values are between two old ones. Distances of 1/2 and 3/2 have the
  # weights 0.59375 and -0.09375 for a = -0.75.
  found = position_tables.cubic(values, 0, 3)
  np.testing.assert_allclose(found, [-0.09375, 0.59375, 0], atol=1e-7)
  # For a = -0.5, weights at half of the distances, which must sum to one.
  w1, w3, w5, w7 = 0.8671875, 0.2265625, -0.0703125, -0.0234375
  found = position_tables.cubic(values, 0, 3, antialias=True)
  edge, middle = 2 * w1 + w3 + w5 + w7, 2 * (w1 + w3 + w5)
  expected = [w3 / edge, w1 / middle, w5 / edge]
  np.testing.assert_allclose(found, expected, atol=1e-7)


def test_weights_are_fitted_by_any_method():
  model = weights.tiny()
  params = weights.random_params(model, SQUARE)
  old = official.flatten(params)[official.POSITIONS]
  for method in position_tables.METHODS:
    new, report = fit(params, model, (24, 40), resize_positions=method)
    expected = position_tables.resize_grid(old, (2, 2), (3, 5), True, method)
    np.testing.assert_array_equal(new[official.POSITIONS], expected)
    assert f'2x2 to 3x5 patches ({method}).' in str(report)
