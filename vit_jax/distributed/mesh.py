"""The device mesh, and the placement of batches on it."""

import collections
from collections.abc import Sequence
import itertools
import math

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
import numpy as np

DATA, FSDP, TENSOR = AXES = ('data', 'fsdp', 'tensor')
# The axes over which the rows of a batch are sharded.
BATCH = (DATA, FSDP)


def create(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """Creates a mesh of devices with the axes `data`, `fsdp` and `tensor`.

  The batch is sharded over the first two; for weights and activations, see
  `sharding`. Several TPU slices form an outer part of `data`, so the other axes
  stay within the fast interconnect of a slice.

  Args:
    data, fsdp, tensor: sizes; one may be -1 for all other devices.
    devices: devices to use, or descriptions of devices; if the sizes need
      fewer, the first ones are used. None for all devices.

  Raises:
    ValueError: if the sizes do not fit the devices.
  """
  devices = jax.devices() if devices is None else list(devices)
  shape = _shape((data, fsdp, tensor), devices)
  size = math.prod(shape)
  if size < len(devices) and len({d.process_index for d in devices}) > 1:
    raise ValueError(
      f'{_describe(shape)} uses {size} of {len(devices)} devices, but with'
      ' several processes all devices have to be used; set one of the sizes'
      ' to -1.'
    )
  devices = devices[:size]
  slices = 1
  if devices[0].platform == 'tpu':
    slices = len({getattr(device, 'slice_index', 0) for device in devices})
  if shape[0] % slices:
    raise ValueError(
      f'{_describe(shape)} does not fit {slices} slices: mesh.data has to be a'
      ' multiple of their number, since other axes cannot span slices.'
    )
  if slices > 1:
    array = mesh_utils.create_hybrid_device_mesh(
      (shape[0] // slices, *shape[1:]),
      (slices, 1, 1),
      devices,
      allow_split_physical_axes=True,
    )
  else:
    array = mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
  # Linen does not work with JAX's default, explicit axes.
  return Mesh(array, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _shape(sizes, devices):
  """Replaces -1 by the number of remaining devices."""
  total = len(devices)
  known = math.prod(size for size in sizes if size != -1)
  unknown = sizes.count(-1)
  if min(sizes) < -1 or 0 in sizes or unknown > 1:
    raise ValueError(
      f'{_describe(sizes)}: each size has to be a positive number of devices,'
      ' and only one may be -1 for all other devices.'
    )
  if known > total or (unknown and total % known):
    raise ValueError(
      f'{_describe(sizes)} needs {"a multiple of " * unknown}{known} devices;'
      f' available: {total} ({devices[0].device_kind}). Set one size to -1 to'
      ' use the remaining devices.'
    )
  return tuple(total // known if size == -1 else size for size in sizes)


def _describe(sizes):
  pairs = zip(AXES, sizes, strict=True)
  return ', '.join(f'mesh.{axis}={size}' for axis, size in pairs)


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of examples over the batch axes."""
  return NamedSharding(mesh, PartitionSpec(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding that keeps the whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Assembles a global batch from the rows of each process."""
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, rows)
    for name, rows in batch.items()
  }


def batch_shards(mesh: Mesh) -> int:
  """Returns the number of parts that a batch is divided into."""
  return math.prod(mesh.shape[axis] for axis in BATCH)


def put(
  arrays: PyTree[np.ndarray], shardings: PyTree[NamedSharding]
) -> PyTree[jax.Array]:
  """Shards arrays that every process holds in full.

  There is one sharding per array, or one for all. With several processes,
  `jax.device_put` would gather all arrays on every device to check that they
  are equal.
  """
  if jax.process_count() == 1:
    return jax.device_put(arrays, shardings)

  def place(array, sharding):
    return jax.make_array_from_callback(
      array.shape, sharding, lambda index: array[index]
    )

  return jax.tree.map(place, arrays, jax.tree.broadcast(shardings, arrays))


def input_share(mesh: Mesh) -> dict[str, int]:
  """Returns the share of each batch that this process reads.

  Processes whose devices hold the same rows read the same share.

  Returns:
    Arguments `process_index` and `process_count` of data/pipeline.py.

  Raises:
    ValueError: if the mesh has no device of some process, or if two processes
      share some rows but not all.
  """
  blocks = collections.defaultdict(set)  # First rows of blocks, by process.
  sharding = batch_sharding(mesh)
  for device, (rows,) in sharding.devices_indices_map((mesh.size,)).items():
    blocks[device.process_index].add(rows.start or 0)
  shares = sorted({tuple(sorted(starts)) for starts in blocks.values()})
  if len(blocks) < jax.process_count() or (
    len(set(itertools.chain(*shares))) != len(shares) * len(shares[0])
  ):
    raise ValueError(
      f'a mesh of {dict(mesh.shape)} devices does not divide a batch into equal'
      f' shares for {jax.process_count()} processes; use all'
      f' {jax.device_count()} devices, and a tensor size that divides, or is a'
      f' multiple of, the {jax.local_device_count()} devices of a process.'
    )
  share = tuple(sorted(blocks[jax.process_index()]))
  return {'process_index': shares.index(share), 'process_count': len(shares)}


def round_up(batch_size: int, mesh: Mesh) -> int:
  """Rounds a batch size up to a multiple of `batch_shards`."""
  shards = batch_shards(mesh)
  return math.ceil(batch_size / shards) * shards


def check_batch(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
  """Checks that a training batch divides over the devices.

  Raises:
    ValueError: if it does not; the message gives the nearest valid sizes.
  """
  shards = batch_shards(mesh)
  unit = shards * accumulate
  if batch_size % unit:
    below, above = batch_size // unit * unit, (batch_size // unit + 1) * unit
    nearest = f'{below} or {above}' if below else f'{above}'
    raise ValueError(
      f'batch_size={batch_size} is not divisible by {unit} (devices that share'
      f' a batch: {shards}, optim.accumulate: {accumulate}); use {nearest}.'
    )
