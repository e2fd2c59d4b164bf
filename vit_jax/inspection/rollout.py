"""Attention rollout (Figures 6 and 14, Appendix D.8).

Abnar & Zuidema (2020), arXiv 2005.00928: averages attention over heads and
multiplies the matrices of all layers, which accounts for the mixing of tokens
in earlier layers. As in their paper, half of each matrix is the identity, for
the residual connections; the ViT paper does not mention this.
"""

from collections.abc import Iterable

from etils import epy
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np
from PIL import Image

with epy.lazy_imports():  # Importing both takes half a second.
  import matplotlib
  from scipy import ndimage

_LUMA = np.float32([0.299, 0.587, 0.114])  # ITU-R BT.601.
_OPACITY = 0.6
_SHOWN_QUANTILE = 0.95


@jax.jit
def extend(
  rollout: Float[Array, 'b n n'], weights: Float[Array, 'b heads n n']
) -> Float[Array, 'b n n']:
  """Extends a rollout by one layer.

  Multiplies it by 0.5 (mean over heads + identity), with normalized rows.
  """
  mixed = 0.5 * jnp.mean(weights, axis=1) + 0.5 * jnp.eye(weights.shape[-1])
  return (mixed / jnp.sum(mixed, axis=-1, keepdims=True)) @ rollout


def identity(batch: int, num_tokens: int) -> Float[Array, 'b n n']:
  """Returns the rollout through zero layers."""
  return jnp.broadcast_to(jnp.eye(num_tokens), (batch, num_tokens, num_tokens))


def rollout(
  layers: Iterable[Float[Array, 'b heads n n']],
) -> Float[Array, 'b n n']:
  """Returns the share of each input token in each output token.

  Shares are (b, output, input), and every row sums to one. Layers start with
  the first, as in `attention_maps.by_layer`.

  Raises:
    ValueError: if there are no layers.
  """
  result = None
  for weights in layers:
    if result is None:
      result = identity(len(weights), weights.shape[-1])
    result = extend(result, weights)
  if result is None:
    raise ValueError('attention rollout needs at least one layer.')
  return result


def mask(
  shares: Float[np.ndarray, 'rows columns'], image_size: tuple[int, int]
) -> Float[np.ndarray, 'h w']:
  """Converts a rollout to a mask to multiply an image with, as in Figure 6.

  Resizes the rollout to the height and width of the image in px with a Lanczos
  filter, blurs it with a Gaussian (sigma: one token), and scales it to [0, 1].
  """
  height, width = image_size
  image = Image.fromarray(np.asarray(shares, np.float32))
  resized = image.resize((width, height), Image.Resampling.LANCZOS)
  token_size = height / shares.shape[0], width / shares.shape[1]
  blurred = ndimage.gaussian_filter(np.asarray(resized), token_size)
  blurred = blurred - blurred.min()
  return blurred / max(blurred.max(), np.finfo(np.float32).tiny)


def heat_map(
  pixels: Float[np.ndarray, 'h w 3'], shares: Float[np.ndarray, 'rows columns']
) -> Float[np.ndarray, 'h w 3']:
  """Lays a rollout over a gray copy of an image, from purple to yellow.

  Unlike in an image multiplied by its mask, the image stays visible where the
  rollout is small. In large models, a few tokens can get most of the attention
  (Darcet et al. (2023), arXiv 2309.16588); the largest 5 % of the shares are
  drawn alike, so that differences among the others are visible.

  Args:
    pixels: an image in [0, 1].
    shares: its rollout.
  """
  largest = np.quantile(shares, _SHOWN_QUANTILE)
  values = mask(np.minimum(shares, largest), pixels.shape[:2])
  colours = matplotlib.colormaps['plasma'](values)[..., :3]
  return (1 - _OPACITY) * (pixels @ _LUMA)[..., None] + _OPACITY * colours
