"""Attention rollout (Figures 6 and 14, Appendix D.8).

Abnar & Zuidema (2020), arXiv 2005.00928: attention of all heads is averaged,
and the layers' matrices are multiplied, so that attention is followed through
tokens that have mixed already. As there, half of each matrix is the identity,
which stands for the residual connections; the ViT paper does not mention it.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np
from PIL import Image
from scipy import ndimage


@jax.jit
def extend(
  rollout: Float[Array, 'b n n'], weights: Float[Array, 'b heads n n']
) -> Float[Array, 'b n n']:
  """Follows a rollout through one layer more.

  A = 0.5 mean over heads + 0.5 identity, rows normalised; A rollout.
  """
  mixed = 0.5 * jnp.mean(weights, axis=1) + 0.5 * jnp.eye(weights.shape[-1])
  return (mixed / jnp.sum(mixed, axis=-1, keepdims=True)) @ rollout


def begin(batch: int, num_tokens: int) -> Float[Array, 'b n n']:
  """The rollout through no layer: every token is itself."""
  return jnp.broadcast_to(jnp.eye(num_tokens), (batch, num_tokens, num_tokens))


def rollout(
  layers: Iterable[Float[Array, 'b heads n n']],
) -> Float[Array, 'b n n']:
  """How much of each token at the input is in each token at the output.

  Args:
    layers: attention weights, from the first layer on; as
      `attention_maps.by_layer` gives them, one is kept at a time.

  Returns:
    Shares, (b, output, input); every row sums to one.

  Raises:
    ValueError: if there is no layer.
  """
  result = None
  for weights in layers:
    if result is None:
      result = begin(len(weights), weights.shape[-1])
    result = extend(result, weights)
  if result is None:
    raise ValueError('there is no layer to roll attention out over.')
  return result


def mask(
  shares: Float[np.ndarray, 'rows columns'], image_size: tuple[int, int]
) -> Float[np.ndarray, 'h w']:
  """What an image is multiplied by to show a rollout, as in Figure 6.

  Resized to the image with Lanczos' filter, blurred by a Gaussian of one token,
  and stretched to [0, 1].

  Args:
    shares: of the rows and columns of tokens.
    image_size: height and width in px.
  """
  height, width = image_size
  image = Image.fromarray(np.asarray(shares, np.float32))
  resized = image.resize((width, height), Image.Resampling.LANCZOS)
  token_size = height / shares.shape[0], width / shares.shape[1]
  blurred = ndimage.gaussian_filter(np.asarray(resized), token_size)
  blurred = blurred - blurred.min()
  return blurred / max(blurred.max(), np.finfo(np.float32).tiny)
