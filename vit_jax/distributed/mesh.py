"""The device mesh, and batches laid out on it."""

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
# Every device along these axes has rows of the batch of its own.
BATCH = (DATA, FSDP)


def create(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  devices: Sequence[jax.Device] | None = None,
) -> Mesh:
  """A mesh of devices with the axes `data`, `fsdp` and `tensor`.

  The batch is sharded over the first two, states and activations as `sharding`
  has it. Several TPU slices form an outer part of `data`, so that the other
  axes stay within the fast network of a slice.

  Args:
    data: size of the axis; of all three, one may be -1 for the rest.
    fsdp: size of the axis.
    tensor: size of the axis.
    devices: what the mesh is made of, or of the first of which, if the sizes
      are for fewer; they may be mere descriptions. None for all that there are.

  Raises:
    ValueError: if the sizes do not fit the devices.
  """
  devices = jax.devices() if devices is None else list(devices)
  shape = _shape((data, fsdp, tensor), devices)
  size = math.prod(shape)
  if size < len(devices) and len({d.process_index for d in devices}) > 1:
    raise ValueError(
      f'{_describe(shape)} uses {size} of {len(devices)} devices, but several'
      ' processes have to use all of theirs; set one of the sizes to -1.'
    )
  devices = devices[:size]
  slices = _num_slices(devices)
  if shape[0] % slices:
    raise ValueError(
      f'{_describe(shape)} does not fit {slices} slices: mesh.data has to be a'
      ' multiple of their number, since the other axes stay within a slice.'
    )
  if slices > 1:
    grid = mesh_utils.create_hybrid_device_mesh(
      (shape[0] // slices, *shape[1:]),
      (slices, 1, 1),
      devices,
      allow_split_physical_axes=True,
    )
  else:
    grid = mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
  # Linen does not work with jax's default, explicit axes.
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _shape(sizes, devices):
  """The sizes, with the rest in the place of -1."""
  total = len(devices)
  known = math.prod(size for size in sizes if size != -1)
  open_axes = sizes.count(-1)
  if min(sizes) < -1 or 0 in sizes or open_axes > 1:
    raise ValueError(
      f'{_describe(sizes)}: each is a number of devices, and one alone may be'
      ' -1 for the rest.'
    )
  if known > total or (open_axes and total % known):
    raise ValueError(
      f'{_describe(sizes)} asks for {"a multiple of " * open_axes}{known}'
      f' devices, but there are {total} ({devices[0].device_kind}); -1 for one'
      ' size alone takes what the others leave.'
    )
  return tuple(total // known if size == -1 else size for size in sizes)


def _describe(sizes):
  pairs = zip(AXES, sizes, strict=True)
  return ', '.join(f'mesh.{axis}={size}' for axis, size in pairs)


def _num_slices(devices):
  """TPU slices; on other platforms, a slice is no border worth minding."""
  if devices[0].platform != 'tpu':
    return 1
  return len({getattr(device, 'slice_index', 0) for device in devices})


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Examples over the axes of the batch."""
  return NamedSharding(mesh, PartitionSpec(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
  """Puts this process's rows where they belong; the result is global."""
  sharding = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(sharding, rows)
    for name, rows in batch.items()
  }


def batch_shards(mesh: Mesh) -> int:
  """Into how many parts a batch is divided."""
  return math.prod(mesh.shape[axis] for axis in BATCH)


def put(
  arrays: PyTree[np.ndarray], shardings: PyTree[NamedSharding]
) -> PyTree[jax.Array]:
  """Puts arrays that every process holds whole where they belong.

  With several processes, `jax.device_put` would gather all of them on every
  device to see whether they are the same.

  Args:
    arrays: the same in all processes.
    shardings: of each; or one for all.
  """
  if jax.process_count() == 1:
    return jax.device_put(arrays, shardings)

  def place(array, sharding):
    return jax.make_array_from_callback(
      array.shape, sharding, lambda index: array[index]
    )

  return jax.tree.map(place, arrays, jax.tree.broadcast(shardings, arrays))


def share(mesh: Mesh) -> dict[str, int]:
  """Which share of every batch this process reads, for the input pipeline.

  Processes whose devices hold the same rows read the same share.

  Returns:
    `process_index` and `process_count` of the functions in data/pipeline.py.

  Raises:
    ValueError: if the mesh leaves a process out, or two of them have some rows
      in common, but not all.
  """
  blocks = collections.defaultdict(set)  # Of rows, by their starts.
  sharding = batch_sharding(mesh)
  for device, (rows,) in sharding.devices_indices_map((mesh.size,)).items():
    blocks[device.process_index].add(rows.start or 0)
  shares = sorted({tuple(sorted(starts)) for starts in blocks.values()})
  if len(blocks) < jax.process_count() or (
    len(set(itertools.chain(*shares))) != len(shares) * len(shares[0])
  ):
    raise ValueError(
      f'a mesh of {dict(mesh.shape)} devices does not deal the rows of a batch'
      f' to {jax.process_count()} processes in equal shares; let it use all'
      f' {jax.device_count()} devices, and let tensor divide the'
      f' {jax.local_device_count()} of a process, or be a multiple of them.'
    )
  own = tuple(sorted(blocks[jax.process_index()]))
  return {'process_index': shares.index(own), 'process_count': len(shares)}


def round_up(batch_size: int, mesh: Mesh) -> int:
  """The smallest batch that holds `batch_size` rows and divides over `mesh`."""
  shards = batch_shards(mesh)
  return math.ceil(batch_size / shards) * shards


def check_batch(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
  """Refuses a training batch that does not divide over the devices.

  Raises:
    ValueError: naming the nearest batch sizes that do.
  """
  shards = batch_shards(mesh)
  unit = shards * accumulate
  if batch_size % unit:
    below, above = batch_size // unit * unit, (batch_size // unit + 1) * unit
    nearest = f'{below} or {above}' if below else f'{above}'
    raise ValueError(
      f'batch_size={batch_size} does not divide over {shards} devices and'
      f' {accumulate} micro-batches a step; use {nearest}.'
    )
