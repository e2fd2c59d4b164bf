"""The training program of a config, without its data or its devices."""

import dataclasses

from jax.sharding import Mesh
import ml_collections
import numpy as np

from vit_jax import build as build_lib
from vit_jax import config as config_lib
from vit_jax.build import program
from vit_jax.data import catalog, splits


@dataclasses.dataclass(frozen=True)
class _Dataset:
  num_examples: int
  num_classes: int
  multi_label: bool


def total_steps(config: ml_collections.ConfigDict) -> int:
  """Length of the run; an epoch is as long as the catalogue says.

  Raises:
    ValueError: if the dataset or its split is not known.
  """
  return config_lib.total_steps(config, _dataset(config).num_examples)


def build(config: ml_collections.ConfigDict, mesh: Mesh) -> program.Program:
  """What the job `plan.job` would run on `mesh`.

  Raises:
    ValueError: if parts of the config do not fit each other or the mesh.
  """
  if config.plan.job == 'masked_patch':
    return program.masked_patches(config, mesh, total_steps=total_steps(config))
  dataset = _dataset(config)
  return program.supervised(
    config,
    mesh,
    num_classes=dataset.num_classes,
    several_labels=dataset.multi_label,
    total_steps=total_steps(config),
  )


def _dataset(config: ml_collections.ConfigDict) -> _Dataset:
  c = config.data
  if c.name not in catalog.DATASETS:
    source = build_lib.open_split(config, c.name, c.train, subset=c.subset)
    return _Dataset(
      source.num_examples, len(source.class_names), source.multi_label
    )
  known = catalog.DATASETS[c.name]
  items = {name: np.zeros(n, bool) for name, n in known.num_examples.items()}
  return _Dataset(
    c.subset or len(splits.select(c.train, items, c.name)),
    known.num_classes,
    known.multi_label,
  )
