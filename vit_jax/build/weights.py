"""Initial weights: random ones, or those of a checkpoint."""

import dataclasses
import logging

import jax.numpy as jnp
from jaxtyping import Array, PyTree, UInt32
import ml_collections

from vit_jax import checkpoints
from vit_jax import config as config_lib
from vit_jax.training import randomness

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Weights:
  """Weights that a job starts from.

  Attributes:
    path: file or folder they were read from.
    params: the weights as stored.
    description: the model that the file specifies.
  """

  path: str
  params: PyTree
  description: checkpoints.Description

  @property
  def class_names(self) -> tuple[str, ...] | None:
    """Class names of the head; None without exactly one per class."""
    names, number = self.description.class_names, self.description.num_classes
    if names is None or len(names) == number:
      return names
    if number:
      _log.warning(
        '%s has %d class names but %d classes; ignoring the names',
        self.path, len(names), number,
      )  # fmt: skip
    return None


def load_weights(config: ml_collections.ConfigDict) -> Weights | None:
  """Reads `init_from`; returns None if it is empty.

  Raises:
    ValueError: if the file is missing, damaged or in an unknown format.
  """
  if not config.init_from:
    return None
  params, description = checkpoints.load_with_description(
    config.init_from, heads=config.model.heads or None
  )
  return Weights(config.init_from, params, description)


def set_image_kind(
  config: ml_collections.ConfigDict, start: Weights | None
) -> None:
  """Sets `data.channels` and `data.bits` if the config leaves them open.

  They are those of the weights that a job starts from, or the defaults.
  """
  data, stored = config.data, start and start.description
  data.channels = data.channels or (stored.channels if stored else 3)
  data.bits = data.bits or (stored.evaluation.bits if stored else 8)


def initial_params(
  model, image_size: tuple[int, int], seed: UInt32[Array, '']
) -> PyTree:
  """Returns random weights of the model; meant to be jitted."""
  image = jnp.zeros((1, *image_size, model.channels))
  key = randomness.stream_key(seed, 'params')
  return model.init(key, image, train=False)['params']


def fit_weights(
  config: ml_collections.ConfigDict, model, start: Weights
) -> PyTree:
  """Returns the weights adapted to the model and logs how each was used.

  Raises:
    ValueError: if they belong to a different model.
  """
  stored = start.description
  _check_recorded(config, model, start)
  params, report = checkpoints.adapt(
    start.params,
    model,
    config_lib.image_size(config),
    head=config.init_head,
    old_image_size=stored.image_size,
    resize_positions=config.init_positions,
    source=start.path,
  )
  if report.grids and (usual := _usual_resizing(stored)):
    _log.info(
      'positions were resized with init_positions=%s; %s uses %s',
      config.init_positions, stored.format, usual,
    )  # fmt: skip
  return params


def _usual_resizing(stored):
  """Returns how the library of a file resizes position embeddings.

  Returns a key of `position_tables.METHODS`; None if there is no such library.
  """
  transformers = ('huggingface', 'siglip')
  if stored.format in transformers and not stored.sizes.get('registers'):
    return 'bicubic'
  libraries = (*transformers, 'timm')
  return 'bicubic_antialias' if stored.format in libraries else None


def _check_recorded(config, model, start):
  """Checks the options that cannot be inferred from the shapes of weights.

  Raises:
    ValueError: if the model's options differ from those that the file records.
  """
  by_shape = checkpoints.description.sizes(start.params)
  for name in ('positions', 'pool'):
    stored = start.description.sizes.get(name)
    found = getattr(model, name, stored)
    if name == 'pool' and config.init_head == 'replace':
      continue
    if stored not in (by_shape.get(name), found):
      raise ValueError(
        f'{start.path} has {name}={stored!r}, but the model has {found!r}; set'
        f' model.{name}={stored}.'
      )
