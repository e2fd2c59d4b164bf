"""Encoder blocks as one: their parameters stacked along an axis of layers.

An encoder that runs as a scan holds `encoderblock`, each of whose parameters
has a leading axis of layers, instead of `encoderblock_0` to
`encoderblock_{depth - 1}`. Files always hold the latter. The functions here
lead from one to the other, in any tree that holds parameters or what is laid
out like them: a state with averages and optimiser moments, too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
import numpy as np

STACKED = 'encoderblock'


def _join(layers: Sequence[Any]) -> Any:
  on_host = all(isinstance(layer, np.ndarray) for layer in layers)
  return (np if on_host else jnp).stack(layers)


def stack(tree: PyTree, join: Callable[[Sequence[Any]], Any] = _join) -> PyTree:
  """The tree with one block for all layers.

  Args:
    tree: with blocks by their official names.
    join: makes one leaf of those of all layers.
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
  """The inverse of `stack`; a tree without stacked blocks stays as it is.

  Args:
    tree: with one block for all layers, whose leaves are arrays.
    split: makes the leaves of all layers of one.
  """
  depth = None

  def unstack_block(node):
    if not _has_stacked(node):
      return node
    rest = {name: value for name, value in node.items() if name != STACKED}
    leaves, structure = jax.tree.flatten(node[STACKED])
    layers = zip(*(split(leaf) for leaf in leaves), strict=True)
    # Without leaves, as where no block is trained, others tell the depth.
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
