"""Training steps on eight devices, against the same steps on one device."""

import eight_devices
import numpy as np
import pytest

from vit_jax.build import program
from vit_jax.distributed import mesh as mesh_lib


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('eight_devices')


@pytest.fixture(scope='module')
def results(folder):
  return eight_devices.run(folder)


def load(folder, case):
  with np.load(folder / f'{case.name}.npz') as arrays:
    return dict(arrays)


@pytest.mark.parametrize('case', eight_devices.CASES, ids=lambda c: c.name)
def test_all_meshes_train_alike(results, folder, case):
  losses = results['losses']
  expected = losses[case.reference.name]
  assert len(set(expected)) == eight_devices.STEPS
  np.testing.assert_allclose(losses[case.name], expected, rtol=1e-5)
  if case.optimizer == 'adam':
    return  # Adam turns rounding errors into full-size updates.
  params, expected = load(folder, case), load(folder, case.reference)
  assert sorted(params) == sorted(expected)
  for name, value in expected.items():
    if name.endswith('/key/bias'):
      np.testing.assert_allclose(params[name], value, rtol=0, atol=1e-6)
    else:
      assert np.abs(value).max() > 0, name
      bound = 1e-5 * np.abs(value).max()
      np.testing.assert_allclose(
        params[name], value, rtol=0, atol=bound, err_msg=name
      )


def squeeze(shape):
  return tuple(side for side in shape if side > 1)


def weight_shapes(arrays):
  """Returns shapes of weights, whole and with one side halved by fsdp=2."""
  whole = {array.shape for array in arrays.values()}
  # Queries, keys and values are one product, with joined weights.
  for name, array in arrays.items():
    if '/query/' in name:
      *width, heads, size = array.shape
      whole |= {(*width, 3, heads, size), (3, heads, size, *width)}
  whole = {squeeze(shape) for shape in whole}
  halves = {
    (*shape[:i], side // 2, *shape[i + 1 :])
    for shape in whole
    for i, side in enumerate(shape)
  }
  return whole | {squeeze(shape) for shape in halves}


@pytest.mark.parametrize(
  'case',
  [c for c in eight_devices.CASES if c.mesh in ('8', '4x2')],
  ids=lambda c: c.name,
)
def test_activations_stay_on_the_devices_of_their_images(results, folder, case):
  """Devices exchange weights and gradients but no activations."""
  arrays = load(folder, case)
  allowed = weight_shapes(arrays)
  (tokens,) = {
    array.shape[1] for name, array in arrays.items() if 'pos_emb' in name
  }
  exchanged = {squeeze(shape) for shape in results['exchanged'][case.name]}
  assert len(exchanged) > 5
  large = {shape for shape in exchanged if len(shape) > 2 or tokens in shape}
  assert large <= allowed


def test_sharded_and_stacked_parameters_start_with_the_same_bits(results):
  assert results['same_start']


def test_a_state_can_be_restored_on_every_other_mesh(results):
  journey = results['journey']
  assert journey['differing'] == []
  stayed = eight_devices.JOURNEY[0]
  np.testing.assert_allclose(
    journey['losses'], results['losses'][stayed.name], rtol=1e-5
  )


def test_a_device_holds_only_its_shard_of_the_base_model(results):
  found = results['base_model']
  temporary = found.pop('init_temporary')
  whole = 4 * 86_567_656
  totals = {'params': whole, 'ema_params': whole, 'opt_state': 2 * whole + 4}
  assert set(found) == set(totals)
  for name, (each, total) in found.items():
    assert total == pytest.approx(totals[name], abs=8)
    assert each <= total / 7
  # No device needs memory for the whole state to initialize it.
  assert temporary < whole / 7


def test_freezing_some_blocks_needs_unstacked_parameters():
  config = eight_devices.make_config(
    eight_devices.TINY | {'optim.freeze': '.*/encoderblock_0/.*'}
  )
  mesh = mesh_lib.create(**config.mesh)
  program.supervised(config, mesh, num_classes=3, total_steps=5)
  config.model.scan = True
  with pytest.raises(ValueError, match='matches some encoder blocks but not'):
    program.supervised(config, mesh, num_classes=3, total_steps=5)
  config.optim.freeze = '(?!head/).*'
  program.supervised(config, mesh, num_classes=3, total_steps=5)
