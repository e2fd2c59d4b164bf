"""Mean attention distance (Figure 7, right; Appendix D.7).

The distance in the image between a token and the tokens that it attends to,
weighted by attention: "analogous to receptive field size in CNNs".
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np


def token_distances(
  grid: tuple[int, int], token_size: tuple[int, int]
) -> Float[np.ndarray, 'n n']:
  """Returns the distances in px between all tokens of an image.

  Tokens are in raster order of the grid, rows by columns. Their size in px is
  (height, width), as in `VisionTransformer.token_size`.
  """
  rows, columns = np.indices(grid).reshape(2, -1)
  corners = np.stack([rows * token_size[0], columns * token_size[1]], axis=1)
  offsets = corners[:, None] - corners[None, :]
  return np.sqrt(np.sum(np.square(offsets, dtype=np.float64), axis=-1))


@functools.partial(jax.jit, static_argnames=('num_prefix', 'renormalise'))
def attention_distance(
  weights: Float[Array, 'b heads n n'],
  distances: Float[Array, 'm m'],
  *,
  num_prefix: int,
  renormalise: bool = False,
) -> Float[Array, 'b heads']:
  """Returns the mean over tokens q of sum_k weights_qk distances_qk, in px.

  The rows and columns of a class token and of registers, which have no position
  in the image, are dropped. As in the paper's figure, the other weights of a
  row are not renormalized by default, so attention to the class token counts as
  distance 0.

  Args:
    weights: attention weights of one layer.
    distances: from `token_distances`, for the m tokens in the image.
    num_prefix: number of tokens before the patches, n - m.
    renormalise: whether to scale the remaining weights of each row to sum to 1.

  Raises:
    ValueError: if weights and distances differ in the number of tokens.
  """
  weights = weights[..., num_prefix:, num_prefix:]
  if weights.shape[-2:] != distances.shape:
    raise ValueError(
      f'got attention weights of {weights.shape[-1]} tokens'
      f'{f" besides {num_prefix} others" if num_prefix else ""}, but distances'
      f' of {len(distances)}; pass the distances of their grid, and the right'
      ' value of num_prefix.'
    )
  by_token = jnp.sum(weights * distances, axis=-1)
  if renormalise:
    by_token = by_token / jnp.sum(weights, axis=-1)
  return jnp.mean(by_token, axis=-1)
