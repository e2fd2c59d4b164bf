"""The device mesh, and batches and states laid out on it."""

import collections
import itertools
import math

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
import numpy as np

DATA = 'data'


def create(data: int = -1) -> Mesh:
  """A mesh whose `data` axis shards the batch.

  Args:
    data: number of devices; -1 for all that there are.

  Raises:
    ValueError: if there are fewer devices than asked for.
  """
  devices = jax.devices()
  size = len(devices) if data == -1 else data
  if not 1 <= size <= len(devices):
    raise ValueError(
      f'mesh.data={data} devices were asked for, but there are'
      f' {len(devices)} ({devices[0].device_kind}); use -1 for all of them.'
    )
  # Linen does not work with jax's default, explicit axes.
  return jax.make_mesh(
    (size,), (DATA,), (AxisType.Auto,), devices=devices[:size]
  )


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Examples over the data axis."""
  return NamedSharding(mesh, PartitionSpec(DATA))


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
  """The smallest multiple of the data axis that holds `batch_size` rows."""
  devices = mesh.shape[DATA]
  return math.ceil(batch_size / devices) * devices


def check_batch(batch_size: int, mesh: Mesh, accumulate: int = 1) -> None:
  """Refuses a training batch that does not divide over the devices.

  Raises:
    ValueError: naming the nearest batch sizes that do.
  """
  unit = mesh.shape[DATA] * accumulate
  if batch_size % unit:
    below, above = batch_size // unit * unit, (batch_size // unit + 1) * unit
    nearest = f'{below} or {above}' if below else f'{above}'
    raise ValueError(
      f'batch_size={batch_size} does not divide over {mesh.shape[DATA]} devices'
      f' and {accumulate} micro-batches a step; use {nearest}.'
    )
