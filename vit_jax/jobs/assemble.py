"""From the config to parts, with the checks that need several of them."""

from collections.abc import Callable
import dataclasses

import jax
import ml_collections
import optax

from vit_jax import config as config_lib
from vit_jax import models
from vit_jax.data import preprocess, sources
from vit_jax.models import positions
from vit_jax.training import optim


@dataclasses.dataclass(frozen=True)
class Data:
  """Opened sources and what happens to their images."""

  train: sources.Source
  evals: dict[str, sources.Source]
  train_transform: Callable
  eval_transform: Callable

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names in the order of the labels."""
    return self.train.class_names


def data(config: ml_collections.ConfigDict) -> Data:
  """Opens the training split and the splits to evaluate.

  Raises:
    ValueError: if data is missing or does not fit the rest of the config.
  """
  c = config.data
  where = {
    'data_dir': c.dir,
    'manual_dir': c.manual_dir,
    'download': c.download,
  }
  train = sources.open_source(
    c.name, c.train, subset=c.subset, seed=config.seed, **where
  )
  evals = {
    name: sources.open_source(c.name, split, **where)
    for name, split in config_lib.eval_splits(config).items()
  }
  if train.multi_label and config.loss == 'softmax':
    raise ValueError(
      f'the images of {c.name} have several labels each, which softmax'
      " cross-entropy cannot express; use loss='sigmoid'."
    )
  best = config.best_metric
  if best and best not in {f'{name}/accuracy' for name in evals}:
    raise ValueError(
      f'best_metric={best!r} is not measured; with data.eval={c.eval!r} it can'
      f' be {" or ".join(f"{name}/accuracy" for name in evals)}.'
    )
  size = config_lib.image_size(config)
  precrop = (c.precrop_size,) * 2 if c.precrop_size else None
  if precrop is None:
    precrop = tuple(round(side * 7 / 6) for side in size)
  if min(precrop[0] - size[0], precrop[1] - size[1]) < 0:
    raise ValueError(
      f'data.precrop_size={c.precrop_size} is smaller than the image,'
      f' {size[0]}x{size[1]}; a crop of it needs at least that size.'
    )
  return Data(
    train=train,
    evals=evals,
    train_transform=preprocess.train_transform(
      image_size=size,
      crop=c.crop,
      precrop_size=precrop,
      area=(c.crop_area, 1.0),
      flip=c.flip,
      rotate_degrees=c.rotate_degrees,
      scale=c.scale,
      shift=c.shift,
    ),
    eval_transform=preprocess.eval_transform(
      image_size=size, crop=c.eval_crop, precrop_size=precrop
    ),
  )


def model(config: ml_collections.ConfigDict, num_classes: int):
  """The Linen module that `config.model` describes.

  Raises:
    ValueError: if the parts of the model, or the image, do not fit.
  """
  c = config.model
  built = models.create(
    c.name,
    num_classes=num_classes,
    depth=c.depth or None,
    width=c.width or None,
    mlp_dim=c.mlp_dim or None,
    heads=c.heads or None,
    patch_size=c.patch_size or None,
    pool=c.pool,
    representation_size={0: None, -1: 'width'}.get(
      c.representation_size, c.representation_size
    ),
    dropout=c.dropout,
    dtype=c.dtype,
    gelu=c.gelu,
    head_bias=c.head_bias,
  )
  positions.grid_shape(config_lib.image_size(config), built.patch_size)
  return built


def optimizer(
  config: ml_collections.ConfigDict, total_steps: int
) -> tuple[optax.GradientTransformation, optim.Schedule]:
  """The optimiser and its learning rate by step."""
  c = config.optim
  learning_rate = optim.schedule(
    c.schedule,
    lr=c.lr,
    total_steps=total_steps,
    warmup_steps=config_lib.warmup_steps(config, total_steps),
  )
  built = optim.create(
    c.name,
    learning_rate,
    b1=c.b1,
    b2=c.b2,
    momentum=c.momentum,
    weight_decay=c.weight_decay,
    clip_norm=c.clip_norm,
  )
  return built, learning_rate


def profiled_steps(config: ml_collections.ConfigDict) -> tuple[int, int] | None:
  """First and last step of `profile_steps`, or None.

  Raises:
    ValueError: if it is not FIRST:LAST.
  """
  if not config.profile_steps:
    return None
  first, colon, last = config.profile_steps.partition(':')
  if not (colon and first.isdigit() and last.isdigit()):
    raise ValueError(
      f'profile_steps={config.profile_steps!r} is not FIRST:LAST, such as'
      ' 10:15.'
    )
  return int(first), int(last)


def batch_shapes(
  config: ml_collections.ConfigDict,
  source: sources.Source,
  sharding: jax.sharding.Sharding,
) -> dict[str, jax.ShapeDtypeStruct]:
  """What a training step gets, for compiling it before there is data."""
  labels = (len(source.class_names),) if source.multi_label else ()
  shapes = {
    'image': (config_lib.image_size(config) + (3,), 'float32'),
    'label': (labels, 'float32' if source.multi_label else 'int32'),
    'mask': ((), 'float32'),
  }
  return {
    name: jax.ShapeDtypeStruct(
      (config.batch_size, *shape), dtype, sharding=sharding
    )
    for name, (shape, dtype) in shapes.items()
  }
