"""All that is drawn of attention, in one pass over a model's layers."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from vit_jax.inspection import attention_distance, attention_maps, rollout
from vit_jax.models import vit


def summarise(
  model: vit.VisionTransformer,
  params: PyTree,
  images: Float[Array, 'b h w 3'],
  *,
  renormalise: bool = False,
) -> dict[str, Float[Array, 'b ...']]:
  """Attention distances, rollout and single-head maps of images.

  The weights of one layer are kept at a time.

  Args:
    model: with attention.
    params: its weights, unrolled.
    images: in [-1, 1].
    renormalise: as of `attention_distance`.

  Returns:
    `distances` (b, l, heads), in px; `rollouts` (b, rows, columns), the share
    of each patch in what the head sees; `maps` (b, l, heads, rows, columns),
    how much of each patch a head gathers for it. For models without class
    token, which see the mean of all tokens, rollouts and maps are means over
    all tokens that attend.

  Raises:
    ValueError: if the model has no attention, or cannot look at the images.
  """
  attention_maps.check(model)
  grid = model.grid_shape(images.shape[1:3])
  between = attention_distance.token_distances(grid, model.token_size)
  tokens = len(between) + (model.pool == 'token')
  rolled = rollout.begin(len(images), tokens)
  distances, maps = [], []
  for weights in attention_maps.by_layer(model, params, images):
    rolled, distance, seen = _reduce(
      weights, rolled, between, pool=model.pool, renormalise=renormalise
    )
    distances.append(distance)
    maps.append(seen)
  maps = jnp.stack(maps, axis=1)
  rolled = attention_maps.of_representation(rolled, model.pool)
  return {
    'distances': jnp.stack(distances, axis=1),
    'rollouts': rolled.reshape(-1, *grid),
    'maps': maps.reshape(*maps.shape[:-1], *grid),
  }


@functools.partial(jax.jit, static_argnames=('pool', 'renormalise'))
def _reduce(weights, rolled, between, *, pool, renormalise):
  """What is kept of one layer."""
  distance = attention_distance.attention_distance(
    weights, between, class_token=pool == 'token', renormalise=renormalise
  )
  seen = attention_maps.of_representation(weights, pool)
  return rollout.extend(rolled, weights), distance, seen
