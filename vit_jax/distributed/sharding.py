"""Sharding of weights, moving averages and optimizer state.

Three ways, which can be combined:

- `data` only: every device holds everything.
- `fsdp`: large arrays (`FSDP_RULE`) are split along their largest divisible
  dimension and gathered where they are used (Rajbhandari et al. (2020), arXiv
  1910.02054; Xu et al. (2021), arXiv 2105.04663).
- `tensor`: attention heads and hidden units of MLPs (`TENSOR_RULES`) are split,
  together with their computation (Shoeybi et al. (2019), arXiv 1909.08053).

Moving averages and optimizer moments have the names of their weights and the
same sharding.
"""

from collections.abc import Callable, Sequence
import math
import re

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed.mesh import FSDP, TENSOR
from vit_jax.models import stacking

# Specs by the path of a weight, without the axis of stacked layers.
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
# Weights to split; all others, such as biases, norms and tokens, are small.
FSDP_RULE = r'(.*/)?(kernel|pos_embedding(_\w+)?)'


def place(state: PyTree, mesh: Mesh) -> PyTree:
  """Returns the shapes of a state with the shardings defined by the rules.

  The state consists of arrays or shapes: weights, their averages and moments,
  with or without stacked encoder blocks. The result consists of
  `jax.ShapeDtypeStruct`s with `NamedSharding`s.

  Raises:
    ValueError: if the model has no attention heads or MLPs to split over
      `tensor`, or their number is not divisible.
  """
  leaves = jax.tree_util.tree_leaves_with_path(state)
  _check_rules({_name(path) for path, _ in leaves}, mesh)

  def place_leaf(path, leaf):
    spec = _spec(_name(path), leaf.shape, mesh)
    sharding = NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  return jax.tree_util.tree_map_with_path(place_leaf, state)


def shardings(placed: PyTree) -> PyTree:
  """Returns the shardings of a tree of arrays or shapes."""
  return jax.tree.map(lambda leaf: leaf.sharding, placed)


def device_bytes(placed: PyTree) -> int:
  """Returns the bytes per device of a tree of arrays or sharded shapes."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(placed)
  )


def summary(placed: PyTree, mesh: Mesh) -> str:
  """Summarizes `place`: bytes per device, and arrays that are not sharded."""
  leaves = jax.tree_util.tree_leaves_with_path(placed)
  total = sum(leaf.size * leaf.dtype.itemsize for _, leaf in leaves)
  per_device = device_bytes(placed)
  text = ', '.join(f'{axis}={size}' for axis, size in mesh.shape.items())
  text += f': {_mib(per_device)} of {_mib(total)} of state on each device'
  if mesh.shape[FSDP] > 1:
    whole = [
      (_name(path), leaf)
      for path, leaf in leaves
      if FSDP not in leaf.sharding.spec
    ]
    size = sum(leaf.size * leaf.dtype.itemsize for _, leaf in whole)
    text += f'; not sharded over fsdp: {len(whole)} of {len(leaves)} arrays,'
    text += f' {_mib(size)}'
    indivisible = {
      name: leaf.shape for name, leaf in whole if re.fullmatch(FSDP_RULE, name)
    }
    if indivisible:
      name, shape = max(indivisible.items(), key=lambda x: math.prod(x[1]))
      text += f', {len(indivisible)} of them because no dimension is divisible'
      text += f' by {mesh.shape[FSDP]}, such as {name} {shape}'
  return text


def constrain_activations(mesh: Mesh) -> Callable[[Array], Array]:
  """Returns a function that shards activations (b, ...) like their images.

  XLA then gathers sharded weights instead of activations, in the backward pass
  too.
  """
  sharding = mesh_lib.batch_sharding(mesh)
  return lambda x: jax.lax.with_sharding_constraint(x, sharding)


def unstack_blocks(state: PyTree) -> PyTree:
  """Unstacks the encoder blocks of a state on devices, one weight at a time.

  The results are in host memory, so devices need little space besides the
  state. A state without stacked blocks is returned as is.
  """
  return stacking.unstack(state, _split)


def stack_blocks(state: PyTree) -> PyTree:
  """Inverts `unstack_blocks`; deletes the arrays of single blocks."""
  return stacking.stack(state, _join)


def _split(x: Array) -> Sequence[Array]:
  sharding = NamedSharding(x.sharding.mesh, PartitionSpec(*x.sharding.spec[1:]))
  layers = jax.jit(list, out_shardings=sharding)(x)
  if x.sharding.mesh.devices.flat[0].platform == 'cpu':
    return layers
  host = sharding.with_memory_kind('pinned_host')
  return jax.block_until_ready(jax.device_put(layers, host))


def _join(layers: Sequence[Array]) -> Array:
  spec = PartitionSpec(None, *layers[0].sharding.spec)
  sharding = NamedSharding(layers[0].sharding.mesh, spec)
  x = jax.jit(jnp.stack, out_shardings=sharding)(layers)
  for layer in layers:
    layer.delete()
  return x


def _name(path) -> str:
  """Returns the path of a weight, for its average and moments as well."""
  keys = [getattr(entry, 'key', None) for entry in path]
  return '/'.join(key for key in keys if isinstance(key, str))


def _check_rules(names, mesh):
  if mesh.shape[TENSOR] == 1:
    return
  for rule in TENSOR_RULES:
    if not any(re.fullmatch(rule, name) for name in names):
      raise ValueError(
        f'mesh.tensor={mesh.shape[TENSOR]} shards attention heads and MLPs, but'
        f' no weight matches {rule}; set mesh.tensor=1 for this model.'
      )


def _spec(name, shape, mesh):
  layer_axes = int(stacking.STACKED in name.split('/'))
  spec = [None] * len(shape)
  if mesh.shape[TENSOR] > 1:
    for rule, axes in TENSOR_RULES.items():
      if re.fullmatch(rule, name):
        spec[layer_axes:] = axes
        number = shape[spec.index(TENSOR)]
        if number % mesh.shape[TENSOR]:
          raise ValueError(
            f'{name} has {number} attention heads or hidden units, which cannot'
            f' be split evenly over mesh.tensor={mesh.shape[TENSOR]} devices;'
            ' choose a number that divides them.'
          )
  if mesh.shape[FSDP] > 1 and re.fullmatch(FSDP_RULE, name):
    axes = range(layer_axes, len(shape))
    divisible = [i for i in axes if shape[i] % mesh.shape[FSDP] == 0]
    if free := [i for i in divisible if spec[i] is None]:
      spec[max(free, key=lambda i: (shape[i], i))] = FSDP
  return PartitionSpec(*spec)


def _mib(num_bytes: int) -> str:
  return f'{num_bytes / 2**20:.1f} MiB'
