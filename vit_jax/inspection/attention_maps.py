"""Attention weights of a model on images, a layer at a time.

All weights of a large model do not fit into memory at once: ViT-L/16 at 384 px
has 512 MB of them for an image. So the encoder runs block by block, and whoever
goes through the layers keeps of each what it needs.
"""

from collections.abc import Iterator
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from vit_jax.models import axial, vit

LayerWeights = Float[Array, 'b heads n n']


def by_layer(
  model: vit.VisionTransformer,
  params: PyTree,
  images: Float[Array, 'b h w 3'],
) -> Iterator[LayerWeights]:
  """Yields the attention weights of each layer, from the first on.

  Rows are the tokens that attend, columns those attended to, and every row sums
  to one. A class token comes first in both. The next layer is only computed
  when it is asked for; its blocks share one compiled program, which is kept for
  images of the same shape.

  Args:
    model: with attention.
    params: its weights, unrolled, as `checkpoints.load` gives them.
    images: in [-1, 1].

  Raises:
    ValueError: if the model has no attention, or cannot look at the images.
  """
  check(model)
  block = model.encoder_block(model.grid_shape(images.shape[1:3]))()
  # Without blocks, a model computes what enters the first of them.
  x, shared = _tokens(model.clone(depth=0), params, images)
  for i in range(model.depth):
    x, weights = _apply(
      block, params['Transformer'][f'encoderblock_{i}'], x + shared
    )
    yield weights


def check(model: vit.VisionTransformer) -> None:
  """Refuses what has no attention.

  Raises:
    ValueError: for a model without an encoder, or with axial attention, where
      no token attends to all.
  """
  if not isinstance(model, vit.VisionTransformer):
    raise ValueError(
      f'a {type(model).__name__} has no attention from token to token to look'
      ' at; inspect a ViT or a hybrid.'
    )
  if isinstance(model, axial.AxialVisionTransformer):
    raise ValueError(
      'an Axial-ViT has no attention to look at but along rows and columns;'
      ' inspect a ViT or a hybrid.'
    )


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


def of_representation(
  matrix: Float[Array, '*batch n n'], pool: str
) -> Float[Array, '*batch m']:
  """How much of each patch goes into what the head sees.

  Args:
    matrix: attention weights or a rollout.
    pool: of the model. 'token': the row of the class token, for the m = n - 1
      patches; 'gap', where the head sees the mean of all tokens: the mean of
      all rows, m = n.

  Raises:
    KeyError: for another pool.
  """
  rows = {
    'token': lambda: matrix[..., 0, 1:],
    'gap': lambda: jnp.mean(matrix, axis=-2),
  }
  return rows[pool]()
