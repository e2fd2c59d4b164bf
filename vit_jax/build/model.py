"""The model of a config."""

import jax
import ml_collections

from vit_jax import config as config_lib
from vit_jax import models
from vit_jax.build.weights import Weights
from vit_jax.distributed import sharding
from vit_jax.models import kernels


def create_model(
  config: ml_collections.ConfigDict,
  num_classes: int,
  start: Weights | None = None,
  mesh: jax.sharding.Mesh | None = None,
):
  """Returns the Linen module described by `config.model`.

  Args:
    config: config of the job; with `data.image_size=0`, the model is not
      checked against the image size.
    num_classes: size of the head; 0 for no head.
    start: weights to load into the model; they set the form of GELU and the
      epsilon of LayerNorms where the config does not.
    mesh: devices to train on. The model then keeps activations on the devices
      of their images and uses `model.scan`, which stacks the parameters of its
      blocks, and `model.remat`. Without a mesh, the parameters are the
      official ones.

  Raises:
    ValueError: if model options contradict each other or the image size.
  """
  options = config_lib.model_options(config)
  options['channels'] = config_lib.channels(config)
  if start:
    stored = start.description
    options = {'gelu': stored.gelu, 'norm_eps': stored.norm_eps} | options
  if mesh is None:
    options |= {'scan': False, 'remat': 'none'}
  else:
    options |= {
      'platform': kernels.platform_of(mesh.devices.flat[0]),
      'constrain': sharding.constrain_activations(mesh),
    }
  model = models.create(num_classes=num_classes, **options)
  if config.data.image_size:
    model.grid_shape(config_lib.image_size(config))
  return model


def record_derived(config: ml_collections.ConfigDict, model) -> None:
  """Stores in the config the options that a checkpoint may have determined.

  The model can then be rebuilt from the run's config.json.
  """
  if hasattr(model, 'gelu'):  # ResNets have neither option.
    config.model.update(gelu=model.gelu, norm_eps=model.norm_eps)
