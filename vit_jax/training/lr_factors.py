"""Learning rates that differ between weights, as factors of the scheduled rate.

Fine-tuning in BEiT (Bao et al. (2021), arXiv 2106.08254) and MAE (He et al.
(2021), arXiv 2111.06377) lowers the rate of a layer with its distance from the
head.
"""

from collections.abc import Sequence
import itertools
import re

import jax
from jaxtyping import PyTree
import numpy as np

from vit_jax.models import pooling, stacking
from vit_jax.training import path_patterns

_BLOCK = re.compile(rf'Transformer/{stacking.STACKED}_(\d+)/')
# Parts of the model after the last block.
_LAST = {'encoder_norm', *pooling.PARTS, 'pre_logits', 'head', 'patch_head'}


def create(
  params: PyTree,
  *,
  layer_decay: float = 1.0,
  by_path: Sequence[tuple[str, float]] = (),
) -> PyTree:
  """Returns the factor of every weight.

  Args:
    params: weights with official names, or their shapes.
    layer_decay: base of the factors of layers; see `of_layers`.
    by_path: patterns and factors; see `of_paths`.

  Returns:
    The product of both factors, as float32 arrays (1, ..., 1) that broadcast to
    the weights, before and after `stacking.stack`.

  Raises:
    ValueError: if a pattern applies to no weight, or layers of a model without
      encoder blocks are to decay.
  """
  names = path_patterns.names(params)
  factors = np.ones(len(names))
  if layer_decay != 1:
    factors *= of_layers(names, layer_decay)
  factors *= of_paths(names, by_path)
  leaves, structure = jax.tree.flatten(params)
  return structure.unflatten(
    np.full((1,) * len(leaf.shape), factor, np.float32)
    for leaf, factor in zip(leaves, factors, strict=True)
  )


def of_layers(names: Sequence[str], decay: float) -> list[float]:
  """Returns decay^(depth + 1 - i) for a weight of layer i.

  Layer 0 is everything before the blocks: patch embedding, with the stem of
  hybrids, class token, registers, mask token and position embeddings. Block l
  is layer l + 1, with its own position embeddings. Layer depth + 1 is
  everything after the blocks: final norm, pooling and heads.

  Args:
    names: official paths of all weights.
    decay: the base.

  Raises:
    ValueError: if the model has no encoder blocks.
  """
  blocks = [_BLOCK.match(name) for name in names]
  if not any(blocks):
    raise ValueError(
      f'optim.layer_decay={decay:g} needs encoder blocks, but the model has'
      ' none; set it to 1. optim.lr_factors also works for ResNets.'
    )
  last = max(int(block[1]) for block in blocks if block) + 2

  def layer(name, block):
    if block:
      return int(block[1]) + 1
    return 0 if _LAST.isdisjoint(name.split('/')) else last

  layers = map(layer, names, blocks)
  return [decay ** (last - layer) for layer in layers]


def of_paths(
  names: Sequence[str], factors: Sequence[tuple[str, float]]
) -> list[float]:
  """Returns the factor of the first pattern that matches; 1 without any.

  Args:
    names: paths of all weights.
    factors: regular expressions that match whole paths, and their factors.

  Raises:
    ValueError: if a pattern matches no weight, or only weights that patterns
      before it match, or takes too long to match.
  """
  found = {}
  for pattern, factor in factors:
    is_match = path_patterns.full_matches('optim.lr_factors', pattern, names)
    matched = set(itertools.compress(names, is_match))
    if not matched:
      raise ValueError(
        f'optim.lr_factors: {pattern!r} matches no weight;'
        f' {path_patterns.ADVICE}'
      )
    if matched <= found.keys():
      raise ValueError(
        f'optim.lr_factors: {pattern!r} has no effect, because patterns before'
        ' it match all of its weights and the first match applies; put it'
        ' before them.'
      )
    found = dict.fromkeys(matched, factor) | found
  return [found.get(name, 1.0) for name in names]
