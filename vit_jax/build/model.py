"""The model of a config."""

import ml_collections

import jax

from vit_jax import config as config_lib
from vit_jax import models
from vit_jax.build.weights import Weights
from vit_jax.distributed import sharding as sharding_lib
from vit_jax.models import platforms


def create_model(
  config: ml_collections.ConfigDict,
  num_classes: int,
  start: Weights | None = None,
  mesh: jax.sharding.Mesh | None = None,
):
  """The Linen module that `config.model` describes.

  Args:
    config: of the run.
    num_classes: size of the head.
    start: weights that the model will get; they tell the form of GELU and the
      epsilon of norms where the config does not.
    mesh: to train on; the model then keeps activations where their images are,
      and heeds `model.scan`, with stacked blocks, and `model.remat`. Without
      one it has the official parameters.

  Raises:
    ValueError: if the parts of the model, or the image, do not fit.
  """
  built = create_network(config, num_classes, start, mesh)
  built.grid_shape(config_lib.image_size(config))
  return built


def create_network(
  config: ml_collections.ConfigDict,
  num_classes: int,
  start: Weights | None = None,
  mesh: jax.sharding.Mesh | None = None,
):
  """The same as `model`, whatever the size of the image."""
  c = config.model
  told = start.description if start else None
  return models.create(
    c.name,
    num_classes=num_classes,
    depth=c.depth or None,
    width=c.width or None,
    mlp_dim=c.mlp_dim or None,
    heads=c.heads or None,
    patch_size=c.patch_size or None,
    stage_depths=c.stage_depths or None,
    width_factor=c.width_factor or None,
    pool=c.pool,
    positions=c.positions,
    positions_at=c.positions_at,
    representation_size={0: None, -1: 'width'}.get(
      c.representation_size, c.representation_size
    ),
    dropout=c.dropout,
    dtype=c.dtype,
    gelu=c.gelu or (told.gelu if told else 'tanh'),
    norm_eps=c.norm_eps or (told.norm_eps if told else 1e-6),
    head_bias=c.head_bias,
    **({} if mesh is None else _how_to_train(config, mesh)),
  )


def _how_to_train(config, mesh):
  return {
    'scan': config.model.scan,
    'remat': config.model.remat,
    'platform': platforms.of(mesh.devices.flat[0]),
    'constrain': sharding_lib.constrain_activations(mesh),
  }


def record_derived(config: ml_collections.ConfigDict, built) -> None:
  """Sets what the config left to the checkpoint, for whoever loads the run."""
  if hasattr(built, 'gelu'):  # ResNets have neither.
    config.model.update(gelu=built.gelu, norm_eps=built.norm_eps)
