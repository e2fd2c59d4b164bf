"""Encoder blocks, unrolled or as a scan with stacked parameters.

An encoder that runs as a scan has one block, `encoderblock`, whose parameters
have a leading layer axis, instead of `encoderblock_0` to
`encoderblock_{depth - 1}`. Files always hold the latter. `stack` and `unstack`
convert between the two, in any tree of parameters or of arrays with the same
layout, such as a state with averages and optimizer moments.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
import functools
import operator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
import numpy as np

Tokens = Float[Array, 'b n d']

STACKED = 'encoderblock'

# What a block keeps from the forward pass for the backward pass; the rest is
# recomputed.
REMAT_POLICIES = {
  'none': jax.checkpoint_policies.everything_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
  # Outputs of dense layers, but not attention weights.
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def run(
  block: Callable[..., nn.Module],
  depth: int,
  x: Tokens,
  per_layer: Sequence[PyTree],
  shared: Array | None,
  chosen: Collection[int],
  num_outputs: int | None,
  *,
  scan: bool,
  remat: str,
) -> tuple[Tokens, dict[str, dict[int, Tokens]]]:
  """Applies `depth` blocks, one after the other.

  Args:
    block: a function from a `name` to a module, which is called with tokens, a
      layer's arguments and `shared`.
    depth: number of layers.
    x: tokens.
    per_layer: arguments with a leading layer axis; None in place of any.
    shared: an argument that is the same in all layers.
    chosen: indices of the layers whose outputs to return. If there are any, a
      scan takes memory for the outputs of all layers.
    num_outputs: number of tokens that the last block computes; None for all. A
      scan, where all blocks are alike, computes all.
    scan: whether the blocks run as a scan, with stacked parameters.
    remat: what the backward pass reuses, a key of `REMAT_POLICIES`.

  Returns:
    The output of the last block, and the result of `choose`.
  """
  apply = operator.call
  if remat != 'none':  # In a scan, XLA keeps the recomputation anyway.
    policy = REMAT_POLICIES[remat]
    apply = nn.remat(apply, policy=policy, prevent_cse=not scan)
  if scan:
    arguments = (block(name=STACKED), x, *per_layer, shared)
    x, outputs = _scan(apply, depth, arguments, keep=bool(chosen))
    return x, choose(outputs, chosen)
  outputs = []
  for i in range(depth):
    arguments = jax.tree.map(operator.itemgetter(i), per_layer)
    if i == depth - 1 and num_outputs is not None:
      block = functools.partial(block, num_outputs=num_outputs)
    x = apply(block(name=f'{STACKED}_{i}'), x, *arguments, shared)
    if chosen:  # Outside of jit, they would stay in memory.
      outputs.append(x)
  return x, choose(outputs, chosen)


def _scan(apply, depth, arguments, *, keep):
  """Returns the last output, and an array (l, b, n, d) of all if kept."""

  def step(*args):
    y = apply(*args)
    return y, y if keep else None

  block, x, *per_layer, _ = arguments
  scanned = nn.scan(
    step,
    variable_axes={'params': 0},
    split_rngs={'params': True},
    in_axes=(*(0 for _ in per_layer), nn.broadcast),
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
  return scanned(*arguments)


def choose(
  outputs: Sequence[Tokens] | Float[Array, 'l b n d'] | None,
  chosen: Collection[int],
) -> dict[str, dict[int, Tokens]]:
  """Returns the outputs of chosen blocks as a part of a model's features.

  Args:
    outputs: all tokens after each block, before a norm that may follow the last
      one; not used if no block is chosen.
    chosen: indices of blocks; the first is 0 and the last -1, as in lists.

  Returns:
    `{'blocks': {index: output}}`, in float32; nothing if no block is chosen.

  Raises:
    ValueError: if there is no such block.
  """
  for i in chosen:
    if not -len(outputs) <= i < len(outputs):
      raise ValueError(
        f'there is no block {i}; the model has {len(outputs)} blocks, 0 to'
        f' {len(outputs) - 1}, or -{len(outputs)} to -1.'
      )
  if not chosen:
    return {}
  return {'blocks': {i: outputs[i].astype(jnp.float32) for i in chosen}}


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
