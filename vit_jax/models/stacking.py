"""Encoder blocks that run as a scan, and their stacked parameters.

An encoder that runs as a scan has one block, `encoderblock`, whose parameters
have a leading layer axis, instead of `encoderblock_0` to
`encoderblock_{depth - 1}`. Files always hold the latter. `stack` and `unstack`
convert between the two, in any tree of parameters or of arrays with the same
layout, such as a state with averages and optimizer moments.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
import numpy as np

STACKED = 'encoderblock'

# What a block keeps from the forward pass for the backward pass; the rest is
# recomputed.
REMAT_POLICIES = {
  'none': jax.checkpoint_policies.everything_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
  # Outputs of dense layers, but not attention weights.
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def remat(
  apply: Callable[..., Array], policy: str, *, in_scan: bool
) -> Callable[..., Array]:
  """Wraps `apply` to rematerialize values that the policy does not save.

  Args:
    apply: called with a module and its arguments.
    policy: a key of `REMAT_POLICIES`.
    in_scan: whether it is called in a scan, where XLA does not merge the
      recomputation with the original anyway.
  """
  if policy == 'none':
    return apply
  return nn.remat(apply, policy=REMAT_POLICIES[policy], prevent_cse=not in_scan)


def scan(
  apply: Callable[..., Array],
  block: nn.Module,
  depth: int,
  x: Float[Array, 'b n d'],
  layers: Sequence[PyTree],
  *shared: Any,
) -> Float[Array, 'b n d']:
  """Applies a block with stacked parameters `depth` times.

  Args:
    apply: called with the block, tokens, a layer's arguments and `shared`.
    block: the module to apply.
    depth: number of layers.
    x: tokens.
    layers: arguments with a leading layer axis, or None.
    *shared: arguments that are the same in all layers.
  """
  scanned = nn.scan(
    lambda *args: (apply(*args), None),
    variable_axes={'params': 0},
    split_rngs={'params': True},
    in_axes=(*(0 for _ in layers), *(nn.broadcast for _ in shared)),
    length=depth,
  )
  if not block.is_initializing():
    # Blocks cast kernels themselves. If they are cast here, the gradients of
    # all layers are stacked in the type of the computation, not in float32.
    def cast(variables):
      return jax.tree_util.tree_map_with_path(
        lambda path, v: v.astype(x.dtype) if path[-1].key == 'kernel' else v,
        variables,
      )

    scanned = nn.map_variables(scanned, 'params', cast)
  return scanned(block, x, *layers, *shared)[0]


def _join(layers: Sequence[Any]) -> Any:
  on_host = all(isinstance(layer, np.ndarray) for layer in layers)
  return (np if on_host else jnp).stack(layers)


def stack(tree: PyTree, join: Callable[[Sequence[Any]], Any] = _join) -> PyTree:
  """Returns a tree with one block for all layers.

  Args:
    tree: has blocks under their official names.
    join: joins the leaves of all layers into one.
  """

  def stack_blocks(node):
    if not _has_blocks(node):
      return node
    rest = {name: value for name, value in node.items() if not _is_block(name)}
    layers = range(len(node) - len(rest))
    joined = jax.tree.map(
      lambda *leaves: join(leaves), *(node[f'{STACKED}_{i}'] for i in layers)
    )
    return {**rest, STACKED: joined}

  return jax.tree.map(stack_blocks, tree, is_leaf=_has_blocks)


def unstack(
  tree: PyTree, split: Callable[[Any], Sequence[Any]] = list
) -> PyTree:
  """Inverts `stack`; returns a tree without stacked blocks unchanged.

  Args:
    tree: has one block for all layers, whose leaves are arrays.
    split: splits a stacked leaf into one per layer.
  """
  depth = None

  def unstack_block(node):
    if not _has_stacked(node):
      return node
    rest = {name: value for name, value in node.items() if name != STACKED}
    leaves, structure = jax.tree.flatten(node[STACKED])
    layers = zip(*(split(leaf) for leaf in leaves), strict=True)
    # A block without leaves, as for frozen weights, has the others' depth.
    layers = list(layers) or [()] * depth
    return rest | {
      f'{STACKED}_{i}': structure.unflatten(x) for i, x in enumerate(layers)
    }

  nodes = jax.tree.leaves(tree, is_leaf=_has_stacked)
  stacked = [node[STACKED] for node in nodes if _has_stacked(node)]
  for leaf in jax.tree.leaves(stacked)[:1]:
    depth = len(leaf)
  return jax.tree.map(unstack_block, tree, is_leaf=_has_stacked)


def _is_block(name: Any) -> bool:
  return isinstance(name, str) and name.startswith(f'{STACKED}_')


def _has_blocks(node: Any) -> bool:
  return isinstance(node, Mapping) and any(map(_is_block, node))


def _has_stacked(node: Any) -> bool:
  return isinstance(node, Mapping) and STACKED in node
