"""Mean attention distance (Figure 7 right, Appendix D.7).

How far a head looks: the distance in the image between a token and those that
it attends to, weighted by attention. "Analogous to receptive field size in
CNNs."
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


def token_distances(
  grid: tuple[int, int], token_size: tuple[int, int]
) -> Float[np.ndarray, 'n n']:
  """Distances in px between all tokens of an image, row after row.

  Args:
    grid: rows and columns of tokens.
    token_size: height and width in px of the part of the image that is a token:
      a patch, or for hybrids the stride of the ResNet.
  """
  rows, columns = np.indices(grid).reshape(2, -1)
  places = np.stack([rows * token_size[0], columns * token_size[1]], axis=1)
  offsets = places[:, None] - places[None, :]
  return np.sqrt(np.sum(np.square(offsets, dtype=np.float64), axis=-1))


@functools.partial(jax.jit, static_argnames=('class_token', 'renormalise'))
def attention_distance(
  weights: Float[Array, 'b heads n n'],
  distances: Float[Array, 'm m'],
  *,
  class_token: bool,
  renormalise: bool = False,
) -> Float[Array, 'b heads']:
  """Mean over tokens of sum_k weights_qk distances_qk, in px, of every head.

  The row and the column of a class token, which is nowhere in the image, are
  left out. As in the paper's figure, the other weights of a row then stay as
  they are, and sum to less than one: what a head gives to the class token
  counts as distance 0.

  Args:
    weights: of one layer.
    distances: from `token_distances`, of the m tokens that are in the image.
    class_token: whether the first token is one, so that m = n - 1.
    renormalise: whether to let the other weights of a row sum to one again.

  Raises:
    ValueError: if the weights are not of these tokens.
  """
  if class_token:
    weights = weights[..., 1:, 1:]
  if weights.shape[-2:] != distances.shape:
    raise ValueError(
      f'attention weights of {weights.shape[-1]} tokens'
      f'{" beside a class token" if class_token else ""}, but distances of'
      f' {len(distances)}; give the distances of their grid, and say whether'
      ' the first token is a class token.'
    )
  by_token = jnp.sum(weights * distances, axis=-1)
  if renormalise:
    by_token = by_token / jnp.sum(weights, axis=-1)
  return jnp.mean(by_token, axis=-1)
