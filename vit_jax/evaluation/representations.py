"""Representations of images: what the layers of a frozen model compute."""

from collections.abc import Callable, Collection, Sequence
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from vit_jax.evaluation import classification


def named(
  model,
  params: PyTree,
  images: Float[Array, 'b h w c'],
  grid: tuple[int, int],
  blocks: Collection[int] = (),
) -> dict[str, Any]:
  """Returns the features of a model by name, including those of its tokens.

  Args:
    model: returns `(logits, features)`.
    params: its weights.
    images: the images, in [-1, 1].
    grid: rows and columns of patches.
    blocks: indices of the blocks whose tokens to return; static.

  Returns:
    The features of the model; `class_token` (b, d) and `patch_tokens` (b, rows,
    columns, d), both after the final norm. The first is only meaningful if the
    model has a class token.
  """
  _, features = model.apply(
    {'params': params}, images, train=False, blocks=blocks
  )
  encoded = features['encoded']
  patches = encoded[:, -math.prod(grid) :]
  return features | {
    'class_token': encoded[:, 0],
    'patch_tokens': patches.reshape(len(images), *grid, -1),
  }


def has_class_token(model) -> bool:
  """Returns whether the first token of a model is a class token."""
  return bool(getattr(model, 'prefix', None) and model.prefix.class_token)


# How an image is represented by all of its tokens (b, n, d), the last of which
# are those of patches, after `start`.
OF_TOKENS = {
  'class_token': lambda tokens, start: tokens[:, 0],
  'patch_mean': lambda tokens, start: jnp.mean(tokens[:, start:], axis=1),
}
LAYERS = ('pooled', 'pre_logits', *OF_TOKENS)


def make_step(
  model,
  grid: tuple[int, int],
  *,
  layer: str,
  blocks: Sequence[int] = (),
  normalise: bool = False,
) -> classification.EvalStep:
  """Returns a function from (params, batch) to `features`, (b, d) float32.

  Args:
    model: returns `(logits, features)`.
    grid: rows and columns of patches.
    layer: one of LAYERS: the pooled representation, the input of the linear
      head, the class token, or the mean of the patch tokens.
    blocks: for the last two, blocks after which tokens are taken, the first
      being 0 and the last -1; their vectors are concatenated. Empty: after the
      final norm.
    normalise: whether each vector is scaled to length 1.

  Raises:
    ValueError: if the model has no class token, or blocks are given for a layer
      that is not computed from tokens.
  """
  if layer == 'class_token' and not has_class_token(model):
    raise ValueError(
      'features.layer=class_token: the model has no class token; choose pooled'
      ' or patch_mean.'
    )
  if blocks and layer not in OF_TOKENS:
    raise ValueError(
      f'features.blocks={tuple(blocks)}: features.layer={layer} is computed'
      f' after all blocks; choose {" or ".join(OF_TOKENS)}.'
    )

  def feature_step(params, batch):
    found = named(model, params, batch['image'], grid, tuple(blocks))
    if layer in OF_TOKENS:
      start = found['encoded'].shape[1] - math.prod(grid)
      tokens = [found['blocks'][i] for i in blocks] or [found['encoded']]
      represent: Callable = OF_TOKENS[layer]
      vectors = jnp.concatenate([represent(x, start) for x in tokens], axis=-1)
    else:
      vectors = found[layer]
    vectors = vectors.astype(jnp.float32)
    if normalise:
      lengths = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
      vectors /= jnp.where(lengths > 0, lengths, 1)
    return {'features': vectors}

  return feature_step
