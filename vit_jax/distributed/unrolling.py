"""States on devices between stacked encoder blocks and those of files.

One weight at a time, so that devices need little room beside the state.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from vit_jax.models import stacking


def unroll(state: PyTree) -> PyTree:
  """The state with one block a layer; these come to lie in host memory.

  What has no stacked blocks stays as it is.
  """
  return stacking.unstack(state, _split)


def roll(state: PyTree) -> PyTree:
  """The state with one block for all layers; the arrays given are deleted."""
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
