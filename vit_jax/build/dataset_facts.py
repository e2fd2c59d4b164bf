"""Facts about the training split of a config, without opening its data."""

import contextlib
import dataclasses

import ml_collections
import numpy as np

from vit_jax.build.data import open_split
from vit_jax.data import catalog, splits, tfds_builders, vtab_tasks
from vit_jax.data.source import NotPreparedError


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
  """The size and the classes of a training split.

  Attributes:
    num_examples: images per epoch, before `data.exclude`.
    num_classes: size of the label set.
    multi_label: whether an image may have several labels.
  """

  num_examples: int
  num_classes: int
  multi_label: bool


def look_up(config: ml_collections.ConfigDict) -> DatasetFacts | None:
  """Returns the facts from the catalog, or None if it lacks the dataset.

  Data that TFDS does not have, such as ImageNet-21k, is opened if it has been
  prepared, because it can have other numbers of images and classes.

  Raises:
    ValueError: if the dataset has no such split.
  """
  c = config.data
  kind, _, task_name = c.name.partition(':')
  split = c.train
  if kind == 'vtab' and task_name:
    task = vtab_tasks.find(task_name)
    dataset, split = task.dataset, task.splits.get(split, split)
  elif c.name in catalog.DATASETS:
    dataset = catalog.DATASETS[c.name]
    if not dataset.in_tfds and tfds_builders.has_folder(dataset.builder, c.dir):
      with contextlib.suppress(NotPreparedError):  # Not completely.
        return _open(config)
  else:
    return None
  items = {
    name: np.broadcast_to(np.False_, size)
    for name, size in dataset.num_examples.items()
  }
  return DatasetFacts(
    c.subset or len(splits.select(split, items, c.name)),
    dataset.num_classes,
    dataset.multi_label,
  )


def look_up_or_open(config: ml_collections.ConfigDict) -> DatasetFacts:
  """Returns the facts; opens the data if the catalog lacks the dataset.

  Raises:
    ValueError: if the dataset or its split is unknown, or its data is missing.
  """
  return look_up(config) or _open(config)


def _open(config: ml_collections.ConfigDict) -> DatasetFacts:
  c = config.data
  source = open_split(config, c.name, c.train, subset=c.subset)
  return DatasetFacts(
    source.num_examples, len(source.class_names), source.multi_label
  )
