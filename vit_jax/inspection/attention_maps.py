"""Attention weights of a model on images, one layer at a time.

The weights of all layers of a large model would not fit into memory: ViT-L/16
at 384 px has 512 MB of them per image. The encoder is therefore run block by
block, and each layer is reduced before the next one is computed.
"""

from collections.abc import Iterator
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
import numpy as np

from vit_jax.inspection import attention_distance, rollout
from vit_jax.models import axial, vit

LayerWeights = Float[Array, 'b heads n n']


def summarize(
  model: vit.VisionTransformer,
  params: PyTree,
  images: Float[Array, 'b h w c'],
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
    attention of each head from the representation to each patch. Unless it is
    the class token, the representation is a weighted mean of tokens; see
    `token_shares`.

  Raises:
    ValueError: if the model has no attention or does not support the images.
  """
  check_has_attention(model)
  grid = model.grid_shape(images.shape[1:3])
  between = attention_distance.token_distances(grid, model.token_size)
  num_prefix = len(model.prefix)
  rolled = rollout.identity(len(images), num_prefix + len(between))
  shares = token_shares(model, params, images)
  distances, maps = [], []
  for weights in by_layer(model, params, images):
    rolled, distance, layer_maps = _reduce(
      weights, rolled, between, shares, num_prefix, renormalise
    )
    distances.append(distance)
    maps.append(layer_maps)
  maps = jnp.stack(maps, axis=1)
  rollouts = of_representation(rolled, shares, num_prefix)
  return {
    'distances': jnp.stack(distances, axis=1),
    'rollouts': rollouts.reshape(-1, *grid),
    'maps': maps.reshape(*maps.shape[:-1], *grid),
  }


def by_layer(
  model: vit.VisionTransformer,
  params: PyTree,
  images: Float[Array, 'b h w c'],
) -> Iterator[LayerWeights]:
  """Yields the attention weights of each layer, starting with the first.

  Rows are queries and columns keys, and every row sums to one. The tokens of
  `model.prefix` are first in both. Layers are computed lazily, by one compiled
  program that all blocks and all images of the same shape share. Same arguments
  as in `summarize`.

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


def token_shares(
  model: vit.VisionTransformer,
  params: PyTree,
  images: Float[Array, 'b h w c'],
) -> Float[Array, 'b n']:
  """Returns the share of each encoded token in the representation.

  It is one for a class token that is the representation. Other poolings only
  use patches: it is uniform for their mean, and the mean over heads for
  attention pooling.
  """
  patches = math.prod(model.grid_shape(images.shape[1:3]))
  num_prefix = len(model.prefix)
  if model.pool == 'map':
    shares = _probe_weights(model, params, images)
    return jnp.pad(shares, ((0, 0), (num_prefix, 0)))
  shares = np.zeros((len(images), num_prefix + patches), np.float32)
  if model.pool == 'token':
    shares[:, 0] = 1
  else:
    shares[:, num_prefix:] = 1 / patches
  return jnp.asarray(shares)


def of_representation(
  matrix: Float[Array, 'b *heads n n'],
  shares: Float[Array, 'b n'],
  num_prefix: int,
) -> Float[Array, 'b *heads m']:
  """Returns the contribution of each of the m patches to the representation.

  Args:
    matrix: attention weights or a rollout.
    shares: from `token_shares`.
    num_prefix: number of tokens before the patches, n - m.
  """
  rows = jnp.einsum('bq,b...qk->b...k', shares, matrix)
  return rows[..., num_prefix:]


@functools.partial(jax.jit, static_argnums=(4, 5))
def _reduce(weights, rolled, between, shares, num_prefix, renormalise):
  distance = attention_distance.attention_distance(
    weights, between, num_prefix=num_prefix, renormalise=renormalise
  )
  layer_maps = of_representation(weights, shares, num_prefix)
  return rollout.extend(rolled, weights), distance, layer_maps


@functools.partial(jax.jit, static_argnums=0)
def _probe_weights(model, params, images):
  # XLA omits the attention weights of blocks, which are not returned.
  _, sown = model.apply({'params': params}, images, mutable='intermediates')
  (attention,) = sown['intermediates']['MAPHead_0'].values()
  (weights,) = attention['attention_weights']  # (b, heads, 1, n).
  return jnp.mean(weights, axis=(1, 2))


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
