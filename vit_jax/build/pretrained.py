"""A pretrained model, rebuilt from its checkpoint."""

import dataclasses
import functools
import logging
import math

from flax import linen as nn
import jax
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import build, checkpoints, models
from vit_jax import config as config_lib
from vit_jax.checkpoints import position_tables
from vit_jax.checkpoints.formats import official

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PretrainedModel:
  """A model with its weights, from `load_classifier` or `load_backbone`.

  Attributes:
    config: the job's config, completed with the checkpoint's image size,
      preprocessing and loss.
    model: the module; its logits are those of the checkpoint's classes.
    params: weights of the module, on the host.
    num_classes: size of the head; 0 without a head.
    recorded_names: (k,) names of the classes; None if the checkpoint has none.
    multi_label: whether an image may have any number of labels, if recorded.
  """

  config: ml_collections.ConfigDict
  model: nn.Module
  params: PyTree
  num_classes: int
  recorded_names: tuple[str, ...] | None = None
  multi_label: bool = False

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names of the classes, (k,); class indices if none are recorded."""
    return self.recorded_names or tuple(map(str, range(self.num_classes)))

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of patches."""
    return self.model.grid_shape(config_lib.image_size(self.config))


def load_classifier(config: ml_collections.ConfigDict) -> PretrainedModel:
  """Reads `init_from` and builds its model, which must have a head.

  If `model.name` is set, the checkpoint must be of that model, including the
  sizes set beside the name. Pooling, positions and the hidden layer of the head
  always come from the checkpoint.

  Raises:
    ValueError: if the checkpoint is missing, has no head, or belongs to a
      different model than the config's.
  """
  start = build.load_weights(config)
  if start is None:
    raise ValueError(
      f'the job {config.job} needs a trained model: set init_from to the path'
      ' of its checkpoint (npz, safetensors, or the folder of a run) or to its'
      ' name, such as augreg:B/16-imagenet2012.'
    )
  if not start.description.num_classes:
    raise ValueError(
      f'{start.path} has no head and therefore no classes; fine-tune it first.'
    )
  return _fitted(config, start)


def load_backbone(config: ml_collections.ConfigDict) -> PretrainedModel:
  """Loads a model as `load_classifier` does, but possibly without a head.

  Without `init_from`, the weights are the random initial weights of a run with
  this model and seed.

  Raises:
    ValueError: if the checkpoint is missing or belongs to a different model
      than the config's, or if neither specifies the model.
  """
  start = build.load_weights(config)
  if start is not None:
    return _fitted(config, start)
  if not (config.model.name and config.data.image_size):
    raise ValueError(
      'no weights are given: set init_from to the path of a checkpoint or, for'
      ' random weights, set model.name and data.image_size.'
    )
  _log.warning('init_from is empty: the weights are random')
  config = config.copy_and_resolve_references()
  _set_evaluation_keys(config, checkpoints.Description('', {}, 0))
  model = build.create_model(config, num_classes=0)
  init = functools.partial(
    build.initial_params, model, config_lib.image_size(config)
  )
  params = jax.device_get(jax.jit(init)(np.uint32(config.seed)))
  return PretrainedModel(config, model, params, num_classes=0)


def _fitted(
  config: ml_collections.ConfigDict, start: build.Weights
) -> PretrainedModel:
  """Returns the checkpoint's model with its own head and weights."""
  stored = start.description
  config = config.copy_and_resolve_references()
  config.init_head = 'keep'
  overrides = _with_unrecorded(config, stored.overrides)
  given = {k: config.model[k] for k in ('gelu', 'norm_eps') if config.model[k]}
  model = models.create(
    _any_name(stored),
    num_classes=stored.num_classes,
    dtype=config.model.dtype,
    **overrides | given,
  )
  if not config.data.image_size:
    size = stored.evaluation.image_size or stored.image_size
    height, width = size or _image_size(start, model)
    config.data.update(image_size=height, image_width=width)
  _set_evaluation_keys(config, stored)
  if config.model.name:
    config.model.update(
      pool=overrides.get('pool', 'token'),
      class_token=overrides.get('class_token', False),
      registers=overrides.get('registers', 0),
      positions=overrides.get('positions', '1d'),
      positions_at=overrides.get('positions_at', 'stem'),
      representation_size=overrides.get('representation_size', 0),
    )
    model = build.create_model(config, stored.num_classes, start)
  model.grid_shape(config_lib.image_size(config))
  return PretrainedModel(
    config,
    model,
    params=build.fit_weights(config, model, start),
    num_classes=stored.num_classes,
    recorded_names=start.class_names,
    multi_label=stored.multi_label,
  )


def _with_unrecorded(config, overrides):
  """Takes options that a file may not record from the config."""
  options, found = config.model, dict(overrides)
  if options.positions == 'sincos2d' and found.get('positions') == 'none':
    found['positions'] = 'sincos2d'
  is_mean = options.class_token and options.pool == 'gap'
  if is_mean and found.get('pool') == 'token':
    found |= {'pool': 'gap', 'class_token': True}
  return found


def _set_evaluation_keys(
  config: ml_collections.ConfigDict, stored: checkpoints.Description
) -> None:
  """Sets the evaluation keys that the config leaves to the checkpoint.

  The precrop size is scaled if the image size differs from the checkpoint's.

  Raises:
    ValueError: if the config cannot express the checkpoint's precrop size.
  """
  data, found = config.data, stored.evaluation
  config.loss = config.loss or stored.loss
  data.eval_interpolation = data.eval_interpolation or found.interpolation
  _check_known(config, 'loss', stored.loss)
  _check_known(config, 'data.eval_interpolation', found.interpolation)
  _check_known(config, 'data.eval_crop', found.crop)
  if data.eval_crop:
    return
  data.eval_crop = found.crop
  data.trim_px = data.trim_px or found.trim_px
  if data.precrop_size or found.precrop_size is None or found.crop == 'resize':
    return
  size = config_lib.image_size(config)
  old_size = found.image_size or stored.image_size or size
  scale = max(new / old for new, old in zip(size, old_size, strict=True))
  height, width = (math.floor(px * scale) for px in found.precrop_size)
  if height != width:
    raise ValueError(
      f'{config.init_from} was evaluated on crops of images resized to'
      f' {height}x{width} px, which is not a square; set data.eval_crop and'
      ' data.precrop_size.'
    )
  data.precrop_size = height


def _check_known(
  config: ml_collections.ConfigDict, key: str, value: str
) -> None:
  """Checks that a setting of the checkpoint is valid for the config key."""
  known = config_lib.KEYS[key].choices
  if value not in known:
    raise ValueError(
      f'{config.init_from} specifies {value!r}, but {key} is one of'
      f' {", ".join(filter(None, known))}.'
    )


def _any_name(stored: checkpoints.Description) -> str:
  """Returns a name of the same kind of model; the stored sizes override it."""
  if 'depth' not in stored.sizes:
    return 'AxialR50x1' if stored.axial else 'R50x1'
  if stored.axial:
    return 'Axial-ViT-B/16'
  return 'R50+ViT-B/32' if 'stage_depths' in stored.sizes else 'ViT-B/16'


def _image_size(start: build.Weights, model) -> tuple[int, int]:
  """Returns the image size at which positions and patches match."""
  grid = position_tables.grid(official.flatten(start.params))
  if grid is not None:
    return tuple(
      number * px for number, px in zip(grid, model.token_size, strict=True)
    )
  raise ValueError(
    f'{start.path} does not specify the image size it was trained at; set'
    ' data.image_size.'
  )
