"""The training program of a config, without its data or its devices."""

from jax.sharding import Mesh
import ml_collections

from vit_jax import config as config_lib
from vit_jax.build import dataset_facts, program


def total_steps(config: ml_collections.ConfigDict) -> int:
  """Length of the run; an epoch is as long as the catalogue says.

  Raises:
    ValueError: if the dataset or its split is not known.
  """
  facts = dataset_facts.look_up_or_open(config)
  return config_lib.total_steps(config, facts.num_examples)


def build(config: ml_collections.ConfigDict, mesh: Mesh) -> program.Program:
  """What the job `plan.job` would run on `mesh`.

  Raises:
    ValueError: if parts of the config do not fit each other or the mesh.
  """
  if config.plan.job == 'masked_patch':
    return program.masked_patches(config, mesh, total_steps=total_steps(config))
  dataset = dataset_facts.look_up_or_open(config)
  return program.supervised(
    config,
    mesh,
    num_classes=dataset.num_classes,
    several_labels=dataset.multi_label,
    total_steps=total_steps(config),
  )
