import dataclasses

import jax
import numpy as np
import pytest

from vit_jax.distributed import mesh as mesh_lib


@dataclasses.dataclass(frozen=True)
class Device:
  """The attributes of devices that meshes use."""

  id: int
  process_index: int = 0
  slice_index: int = 0
  platform: str = 'cpu'
  device_kind: str = 'cpu'
  coords: tuple[int, ...] = ()
  core_on_chip: int = 0


def devices(number, *, per_process=8, **kwargs):
  return [
    Device(id=i, process_index=i // per_process, **kwargs)
    for i in range(number)
  ]


@pytest.mark.parametrize(
  'sizes, shape',
  [
    ((), (8, 1, 1)),
    ((-1, 2), (4, 2, 1)),
    ((1, -1), (1, 8, 1)),
    ((2, 2, -1), (2, 2, 2)),
    ((2, 1, 2), (2, 1, 2)),  # Half of the devices.
  ],
)
def test_sizes(sizes, shape):
  mesh = mesh_lib.create(*sizes, devices=devices(8))
  assert mesh.axis_names == ('data', 'fsdp', 'tensor')
  assert mesh.devices.shape == shape
  assert [d.id for d in mesh.devices.flat] == list(range(np.prod(shape)))


@pytest.mark.parametrize(
  'sizes, message',
  [
    ((16,), 'mesh.data=16, .*needs 16 devices; available: 8'),
    ((-1, 3), 'mesh.fsdp=3, .*needs a multiple of 3 devices'),
    ((-1, -1), 'only one may be -1'),
    ((0,), 'mesh.data=0, .*a positive number of devices'),
    ((4,), 'uses 4 of 8 devices, but with several processes'),
  ],
)
def test_invalid_sizes_are_refused(sizes, message):
  with pytest.raises(ValueError, match=message):
    mesh_lib.create(*sizes, devices=devices(8, per_process=4))


def test_slices_form_the_outer_part_of_data():
  slices = [
    Device(
      id=4 * slice_index + 2 * y + x,
      slice_index=slice_index,
      platform='tpu',
      device_kind='TPU v4',
      coords=(x, y, 0),
    )
    for x in range(2)
    for y in range(2)
    for slice_index in range(2)
  ]
  mesh = mesh_lib.create(4, 2, 1, devices=slices)
  assert mesh.devices.shape == (4, 2, 1)
  assert [d.slice_index for d in mesh.devices.flat] == [0] * 4 + [1] * 4
  with pytest.raises(ValueError, match='2 slices: mesh.data'):
    mesh_lib.create(1, 8, 1, devices=slices)


def test_batch_on_all_devices():
  mesh = mesh_lib.create()
  batch = mesh_lib.put_batch({'x': np.arange(6).reshape(3, 2)}, mesh)
  assert batch['x'].sharding == mesh_lib.batch_sharding(mesh)
  np.testing.assert_array_equal(batch['x'], [[0, 1], [2, 3], [4, 5]])


def test_batch_sizes():
  mesh = jax.sharding.AbstractMesh((2, 3, 2), mesh_lib.AXES)
  assert mesh_lib.batch_shards(mesh) == 6
  assert mesh_lib.round_up(7, mesh) == 12
  assert mesh_lib.batch_sharding(mesh).shard_shape((12, 5)) == (2, 5)
  mesh_lib.check_batch(24, mesh, accumulate=4)
  with pytest.raises(
    ValueError, match='divisible by 12 .*: 6, .*: 2.*use 12 or 24'
  ):
    mesh_lib.check_batch(20, mesh, accumulate=2)
