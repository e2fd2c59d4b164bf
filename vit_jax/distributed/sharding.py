"""Which device holds which part of weights, averages and optimiser state.

Three ways, which go together:

- Without more, every device holds all (`data`).
- `fsdp`: each array that the table below calls large is split along its
  largest dimension that divides, and gathered where it is used (Rajbhandari et
  al. (2020), arXiv 1910.02054; Xu et al. (2021), arXiv 2105.04663).
- `tensor`: attention heads and the hidden units of MLPs are split, and so is
  what is computed with them (Shoeybi et al. (2019), arXiv 1909.08053).

Averages and optimiser moments carry the names of their weights, and lie where
these do.
"""

from collections.abc import Callable
import math
import re

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed.mesh import FSDP, TENSOR
from vit_jax.models import stacking

# Weights by their paths, and their dimensions (without that of stacked layers).
_ATTENTION = r'.*/MultiHeadDotProductAttention_0'
_MLP = r'.*/MlpBlock_0'
TENSOR_RULES = {
  rf'{_ATTENTION}/(query|key|value)/kernel': PartitionSpec(None, TENSOR, None),
  rf'{_ATTENTION}/(query|key|value)/bias': PartitionSpec(TENSOR, None),
  rf'{_ATTENTION}/out/kernel': PartitionSpec(TENSOR, None, None),
  rf'{_MLP}/Dense_0/kernel': PartitionSpec(None, TENSOR),
  rf'{_MLP}/Dense_0/bias': PartitionSpec(TENSOR),
  rf'{_MLP}/Dense_1/kernel': PartitionSpec(TENSOR, None),
}
# Biases, norms and tokens are small; everything else is one of these.
FSDP_RULE = r'(.*/)?(kernel|pos_embedding(_\w+)?)'


def place(state: PyTree, mesh: Mesh) -> PyTree:
  """The shapes of a state, each with the sharding that the rules give it.

  Args:
    state: weights and what is laid out like them, with encoder blocks stacked
      or not; arrays or their shapes.
    mesh: from `mesh.create`.

  Returns:
    `jax.ShapeDtypeStruct`s with `NamedSharding`s.

  Raises:
    ValueError: if attention heads or MLPs do not divide over `tensor`, or there
      are none.
  """
  leaves = jax.tree_util.tree_leaves_with_path(state)
  _check_rules({_name(path) for path, _ in leaves}, mesh)

  def place_leaf(path, leaf):
    spec = _spec(_name(path), leaf.shape, mesh)
    sharding = NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree_util.tree_map_with_path(place_leaf, state)


def shardings(placed: PyTree) -> PyTree:
  """Those of the arrays or shapes of a tree."""
  return jax.tree.map(lambda leaf: leaf.sharding, placed)


def device_bytes(placed: PyTree) -> int:
  """Bytes of a tree on one device: arrays, or shapes with shardings."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(placed)
  )


def summary(placed: PyTree, mesh: Mesh) -> str:
  """What `place` did, in a line: bytes on a device, and what stays whole."""
  leaves = jax.tree_util.tree_leaves_with_path(placed)
  total = sum(leaf.size * leaf.dtype.itemsize for _, leaf in leaves)
  each = device_bytes(placed)
  text = ', '.join(f'{axis}={size}' for axis, size in mesh.shape.items())
  text += f': {_mib(each)} of {_mib(total)} of state on each device'
  if mesh.shape[FSDP] > 1:
    whole = [
      (_name(path), leaf)
      for path, leaf in leaves
      if FSDP not in leaf.sharding.spec
    ]
    size = sum(leaf.size * leaf.dtype.itemsize for _, leaf in whole)
    text += f'; {len(whole)} of {len(leaves)} arrays, {_mib(size)}, are not'
    text += ' sharded over fsdp'
    indivisible = {
      name: leaf.shape for name, leaf in whole if re.fullmatch(FSDP_RULE, name)
    }
    if indivisible:
      name, shape = max(indivisible.items(), key=lambda x: math.prod(x[1]))
      text += f', {len(indivisible)} weights because no dimension divides by'
      text += f' {mesh.shape[FSDP]}, such as {name} {shape}'
  return text


def constrain_activations(mesh: Mesh) -> Callable[[Array], Array]:
  """A function that keeps activations (b, ...) where their images are.

  Weights that are split are then gathered to meet them, and not the other way
  round; and so for gradients, which go through the same function.
  """
  sharding = mesh_lib.batch_sharding(mesh)
  return lambda x: jax.lax.with_sharding_constraint(x, sharding)


def _name(path) -> str:
  """The path of a weight, also of its average and its moments."""
  keys = [getattr(entry, 'key', None) for entry in path]
  return '/'.join(key for key in keys if isinstance(key, str))


def _check_rules(names, mesh):
  if mesh.shape[TENSOR] == 1:
    return
  for rule in TENSOR_RULES:
    if not any(re.fullmatch(rule, name) for name in names):
      raise ValueError(
        f'mesh.tensor={mesh.shape[TENSOR]} shards attention heads and MLPs, but'
        f' no weight is named {rule}; set mesh.tensor=1 for this model.'
      )


def _spec(name, shape, mesh):
  layer_axes = int(stacking.STACKED in name.split('/'))
  spec = [None] * len(shape)
  if mesh.shape[TENSOR] > 1:
    for rule, axes in TENSOR_RULES.items():
      if re.fullmatch(rule, name):
        spec[layer_axes:] = axes
        _check_divides(name, shape, spec.index(TENSOR), mesh.shape[TENSOR])
  if mesh.shape[FSDP] > 1 and re.fullmatch(FSDP_RULE, name):
    free = [
      i
      for i in range(layer_axes, len(shape))
      if spec[i] is None and shape[i] % mesh.shape[FSDP] == 0
    ]
    if free:
      spec[max(free, key=lambda i: (shape[i], i))] = FSDP
  return PartitionSpec(*spec)


def _check_divides(name, shape, dimension, size):
  if shape[dimension] % size:
    raise ValueError(
      f'{name} has {shape[dimension]} attention heads or hidden units, which do'
      f' not divide over mesh.tensor={size} devices; choose a divisor.'
    )


def _mib(num_bytes: int) -> str:
  return f'{num_bytes / 2**20:.1f} MiB'
