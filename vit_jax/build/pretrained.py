"""A trained model out of a checkpoint: to evaluate, to use."""

import dataclasses
import functools
import logging

from flax import linen as nn
import jax
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import checkpoints, models
from vit_jax import config as config_lib
from vit_jax.checkpoints import position_tables
from vit_jax.checkpoints.formats import official
from vit_jax import build


_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PretrainedModel:
  """What `load` and `load_features` return.

  Attributes:
    config: the job's, with the image size where that was the checkpoint's.
    model: gives the logits of the checkpoint's classes.
    params: for the model, on the host.
    num_classes: k; 0 without a head.
    class_names: (k,) names; numbers where no file tells them.
  """

  config: ml_collections.ConfigDict
  model: nn.Module
  params: PyTree
  num_classes: int
  class_names: tuple[str, ...]


def load_classifier(config: ml_collections.ConfigDict) -> PretrainedModel:
  """Reads `init_from` and builds the model that it is of.

  With `model.name`, it has to be that model, under the overrides beside the
  name; how it pools, what positions it has and whether its head has a hidden
  layer, the checkpoint tells in any case.

  Raises:
    ValueError: if there is no such checkpoint, it has no head, or it is of
      another model than the config's.
  """
  start = build.load_weights(config)
  if start is None:
    raise ValueError(
      f'to {config.job} needs a trained model: set init_from to the path of its'
      ' checkpoint (npz, safetensors, or the folder of a run).'
    )
  if not start.description.num_classes:
    raise ValueError(
      f'{start.path} has no head, and so no classes; fine-tune it first.'
    )
  return _fitted(config, start)


def load_backbone(config: ml_collections.ConfigDict) -> PretrainedModel:
  """Like `load`, for features alone: the checkpoint need not have a head.

  Without `init_from`, the weights are the random ones that a run with this
  model and seed starts from.

  Raises:
    ValueError: if there is no such checkpoint, it is of another model than the
      config's, or neither tells the model.
  """
  start = build.load_weights(config)
  if start is not None:
    return _fitted(config, start)
  if not (config.model.name and config.data.image_size):
    raise ValueError(
      'which weights? Set init_from to the path of a checkpoint; or, for random'
      ' ones, model.name and data.image_size.'
    )
  _log.warning('init_from is empty: the weights are random')
  model = build.create_model(config, num_classes=0)
  init = jax.jit(functools.partial(build.initial_params, config, model))
  params = jax.device_get(init(np.uint32(config.seed)))
  return PretrainedModel(config, model, params, num_classes=0, class_names=())


def _fitted(
  config: ml_collections.ConfigDict, start: build.Weights
) -> PretrainedModel:
  """The checkpoint's model, with the head that it has, and its weights."""
  told = start.description
  config = config.copy_and_resolve_references()
  config.init_head = 'keep'
  model = models.create(
    _any_name(told),
    num_classes=told.num_classes,
    dtype=config.model.dtype,
    **told.overrides,
  )
  if not config.data.image_size:
    height, width = told.image_size or _image_size(start, model)
    config.data.update(image_size=height, image_width=width)
  if config.model.name:
    config.model.update(
      pool=told.sizes.get('pool', 'token'),
      positions=told.sizes.get('positions', '1d'),
      positions_at=told.sizes.get('positions_at', 'stem'),
      representation_size=told.sizes.get('representation_size', 0),
    )
    model = build.create_model(config, told.num_classes, start)
  model.grid_shape(config_lib.image_size(config))
  names = told.class_names
  if names is None or len(names) != told.num_classes:
    names = tuple(str(k) for k in range(told.num_classes))
  return PretrainedModel(
    config,
    model,
    params=build.fit_weights(config, model, start),
    num_classes=told.num_classes,
    class_names=names,
  )


def _any_name(told: checkpoints.Description) -> str:
  """A name of the checkpoint's kind; its sizes take the place of the name's."""
  if 'depth' not in told.sizes:
    return 'AxialR50x1' if told.axial else 'R50x1'
  if told.axial:
    return 'Axial-ViT-B/16'
  return 'R50+ViT-B/32' if 'stage_depths' in told.sizes else 'ViT-B/16'


def _image_size(start: build.Weights, model) -> tuple[int, int]:
  """The image whose patches have as many positions as there are."""
  grid = position_tables.grid(official.flatten(start.params))
  if grid is not None:
    return tuple(
      number * px for number, px in zip(grid, model.token_size, strict=True)
    )
  raise ValueError(
    f'{start.path} does not tell for which size of images it was trained; set'
    ' data.image_size.'
  )
