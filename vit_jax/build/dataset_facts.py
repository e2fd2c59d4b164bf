"""Facts about the training split of a config, without opening its data."""

import dataclasses

import ml_collections
import numpy as np

from vit_jax.build.data import open_split
from vit_jax.data import catalog, splits, vtab_tasks


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
  if facts := look_up(config):
    return facts
  c = config.data
  source = open_split(config, c.name, c.train, subset=c.subset)
  return DatasetFacts(
    source.num_examples, len(source.class_names), source.multi_label
  )
