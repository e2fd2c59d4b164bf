"""The initial weights of a config: random ones, or those of a checkpoint."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, PyTree, UInt32
import ml_collections

from vit_jax import checkpoints
from vit_jax import config as config_lib
from vit_jax.training import randomness


@dataclasses.dataclass(frozen=True)
class Weights:
  """What a run starts from.

  Attributes:
    path: where it was read.
    params: as in the file.
    description: what the file tells of its model.
  """

  path: str
  params: PyTree
  description: checkpoints.Description


def load_weights(config: ml_collections.ConfigDict) -> Weights | None:
  """Reads `init_from`; None if it is empty.

  Raises:
    ValueError: if the file is missing, damaged or of no known format.
  """
  if not config.init_from:
    return None
  params, description = checkpoints.load_with_description(
    config.init_from, heads=config.model.heads or None
  )
  return Weights(config.init_from, params, description)


def initial_params(
  config: ml_collections.ConfigDict, built, seed: UInt32[Array, '']
) -> PyTree:
  """Random weights of the model; to be jitted."""
  image = jnp.zeros((1, *config_lib.image_size(config), 3))
  key = randomness.stream_key(seed, 'params')
  return built.init(key, image, train=False)['params']


def fit_weights(config: ml_collections.ConfigDict, built, start: Weights) -> PyTree:
  """The weights as the model needs them; what became of them is logged.

  Raises:
    ValueError: if they are of another model.
  """
  params, _ = checkpoints.adapt(
    start.params,
    built,
    config_lib.image_size(config),
    head=config.init_head,
    old_image_size=start.description.image_size,
    source=start.path,
  )
  return params
