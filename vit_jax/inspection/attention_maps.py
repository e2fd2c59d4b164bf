"""Attention weights of a model on images, one layer at a time.

The weights of all layers of a large model would not fit into memory: ViT-L/16
at 384 px has 512 MB of them per image. The encoder is therefore run block by
block, and each layer is reduced before the next one is computed.
"""

from collections.abc import Iterator
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from vit_jax.inspection import attention_distance, rollout
from vit_jax.models import axial, vit

LayerWeights = Float[Array, 'b heads n n']


def summarize(
  model: vit.VisionTransformer,
  params: PyTree,
  images: Float[Array, 'b h w 3'],
  *,
  renormalise: bool = False,
) -> dict[str, Float[Array, 'b ...']]:
  """Computes attention distances, rollouts and maps of single heads.

  Args:
    model: a model with attention.
    params: its weights, unrolled, as returned by `checkpoints.load`.
    images: in [-1, 1].
    renormalise: same as in `attention_distance`.

  Returns:
    `distances` (b, l, heads) in px; `rollouts` (b, rows, columns), the share of
    each patch in the representation; `maps` (b, l, heads, rows, columns), the
    attention of each head from the representation to each patch. Without class
    token, the representation is the mean of all tokens.

  Raises:
    ValueError: if the model has no attention or does not support the images.
  """
  check_has_attention(model)
  grid = model.grid_shape(images.shape[1:3])
  between = attention_distance.token_distances(grid, model.token_size)
  tokens = len(between) + (model.pool == 'token')
  rolled = rollout.identity(len(images), tokens)
  distances, maps = [], []
  for weights in by_layer(model, params, images):
    rolled, distance, layer_maps = _reduce(
      weights, rolled, between, pool=model.pool, renormalise=renormalise
    )
    distances.append(distance)
    maps.append(layer_maps)
  maps = jnp.stack(maps, axis=1)
  return {
    'distances': jnp.stack(distances, axis=1),
    'rollouts': of_representation(rolled, model.pool).reshape(-1, *grid),
    'maps': maps.reshape(*maps.shape[:-1], *grid),
  }


def by_layer(
  model: vit.VisionTransformer,
  params: PyTree,
  images: Float[Array, 'b h w 3'],
) -> Iterator[LayerWeights]:
  """Yields the attention weights of each layer, starting with the first.

  Rows are queries and columns keys, and every row sums to one. A class token is
  first in both. Layers are computed lazily, by one compiled program that all
  blocks and all images of the same shape share. Same arguments as in
  `summarize`.

  Raises:
    ValueError: if the model has no attention or does not support the images.
  """
  check_has_attention(model)
  block = model.encoder_block(model.grid_shape(images.shape[1:3]))()
  # A model without blocks computes the input of the first block.
  x, shared = _tokens(model.clone(depth=0), params, images)
  for i in range(model.depth):
    x, weights = _apply(
      block, params['Transformer'][f'encoderblock_{i}'], x + shared
    )
    yield weights


def check_has_attention(model: vit.VisionTransformer) -> None:
  """Raises a ValueError for a model without attention between all tokens."""
  if not isinstance(model, vit.VisionTransformer):
    raise ValueError(
      f'a {type(model).__name__} has no attention between tokens; inspect a ViT'
      ' or a hybrid.'
    )
  if isinstance(model, axial.AxialVisionTransformer):
    raise ValueError(
      'an Axial-ViT only has attention along rows and columns, which cannot be'
      ' inspected; use a ViT or a hybrid.'
    )


def of_representation(
  matrix: Float[Array, '*batch n n'], pool: str
) -> Float[Array, '*batch m']:
  """Returns the share of each patch in the representation.

  Args:
    matrix: attention weights or a rollout.
    pool: pooling of the model. 'token': the row of the class token, for the
      m = n - 1 patches; 'gap', with the mean of all tokens as representation:
      the mean of all rows, m = n.

  Raises:
    KeyError: for another pooling.
  """
  rows = {
    'token': lambda: matrix[..., 0, 1:],
    'gap': lambda: jnp.mean(matrix, axis=-2),
  }
  return rows[pool]()


@functools.partial(jax.jit, static_argnames=('pool', 'renormalise'))
def _reduce(weights, rolled, between, *, pool, renormalise):
  distance = attention_distance.attention_distance(
    weights, between, class_token=pool == 'token', renormalise=renormalise
  )
  layer_maps = of_representation(weights, pool)
  return rollout.extend(rolled, weights), distance, layer_maps


@functools.partial(jax.jit, static_argnums=0)
def _tokens(model, params, images):
  _, sown = model.apply({'params': params}, images, mutable='intermediates')
  sown = sown['intermediates']['Transformer']
  (tokens,) = sown['tokens']
  (shared,) = sown.get('shared_positions', (jnp.zeros_like(tokens[:1]),))
  return tokens, shared


@functools.partial(jax.jit, static_argnums=0)
def _apply(block, params, x):
  x, sown = block.apply({'params': params}, x, None, mutable='intermediates')
  (attention,) = sown['intermediates'].values()
  (weights,) = attention['weights']
  return x, weights
