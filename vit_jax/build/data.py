"""The data of a config: opened splits and image transforms."""

from collections.abc import Callable
import dataclasses
from typing import Any

import ml_collections

from vit_jax import config as config_lib
from vit_jax.data import preprocess, registry
from vit_jax.distributed import processes


@dataclasses.dataclass(frozen=True)
class EvalData:
  """Opened sources to evaluate, and what happens to their images."""

  evals: dict[str, registry.Source]
  eval_transform: Callable


@dataclasses.dataclass(frozen=True)
class Data(EvalData):
  """The same with a source to train on."""

  train: registry.Source
  train_transform: Callable

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names in the order of the labels."""
    return self.train.class_names


def open_data(config: ml_collections.ConfigDict) -> Data:
  """Opens the training split and the splits to evaluate.

  Raises:
    ValueError: if data is missing or does not fit the rest of the config.
  """
  c = config.data
  train = open_split(
    config,
    c.name,
    c.train,
    subset=c.subset,
    seed=config.seed,
    exclude=c.exclude,
  )
  held_out = open_eval_data(config)
  best = config.best_metric
  names = [f'{name}/accuracy' for name in held_out.evals]
  if best and best not in names:
    raise ValueError(
      f'best_metric={best!r} is not measured; with data.eval={c.eval!r} it can'
      f' be {" or ".join(names)}.'
    )
  return Data(
    **vars(held_out),
    train=train,
    train_transform=preprocess.train_transform(
      image_size=config_lib.image_size(config),
      crop=c.crop,
      precrop_size=_precrop_size(config),
      area=(c.crop_area, 1.0),
      flip=c.flip,
      rotate_degrees=c.rotate_degrees,
      scale=c.scale,
      shift=c.shift,
    ),
  )


def open_eval_data(config: ml_collections.ConfigDict) -> EvalData:
  """Opens the splits to evaluate alone.

  Raises:
    ValueError: if data is missing or an image size makes no sense.
  """
  evals = {
    name: open_split(config, config.data.name, split)
    for name, split in config_lib.eval_splits(config).items()
  }
  return EvalData(evals=evals, eval_transform=eval_transform(config))


def open_split(
  config: ml_collections.ConfigDict, name: str, split: str, **options: Any
) -> registry.Source:
  """Opens a split of any dataset; TFDS looks where the config says.

  With several processes, all have to open it.

  Args:
    config: of the job.
    name: of the dataset.
    split: of it.
    **options: further ones of `open_source`.

  Raises:
    ValueError: if it is not there.
  """
  c = config.data

  def open_source(download):
    return registry.open_source(
      name,
      split,
      data_dir=c.dir,
      manual_dir=c.manual_dir,
      download=download,
      **options,
    )

  if not (c.download and processes.is_multiprocess()):
    return open_source(c.download)
  # Process 0 prepares what is missing; the others find it prepared.
  try:
    if processes.is_first():
      return open_source(download=True)
  finally:
    processes.wait_for_all(f'{name} is prepared')
  return open_source(download=False)


def eval_transform(config: ml_collections.ConfigDict) -> Callable:
  """What happens to an image that is not for training.

  Raises:
    ValueError: if an image size makes no sense.
  """
  return preprocess.eval_transform(
    image_size=config_lib.image_size(config),
    crop=config.data.eval_crop,
    precrop_size=_precrop_size(config),
    trim_px=config.data.trim_px,
  )


def _precrop_size(config):
  """Height and width before a random or center crop."""
  given = config.data.precrop_size
  size = config_lib.image_size(config)
  if not given:
    return tuple(round(side * 7 / 6) for side in size)
  if given < max(size):
    raise ValueError(
      f'data.precrop_size={given} is smaller than the image,'
      f' {size[0]}x{size[1]}; a crop of it needs at least that size.'
    )
  return given, given
