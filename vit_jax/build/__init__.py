"""From the config to the parts of a job.

Besides the jobs, only this package reads the config.
"""

from vit_jax.build.data import (
  Data,
  EvalData,
  eval_transform,
  open_data,
  open_eval_data,
  open_split,
)
from vit_jax.build.mesh import create_mesh
from vit_jax.build.model import create_model, create_network, record_derived
from vit_jax.build.optimizer import create_optimizer, frozen_weights
from vit_jax.build.profile import profiled_steps
from vit_jax.build.weights import (
  Weights,
  fit_weights,
  initial_params,
  load_weights,
)

__all__ = [
  'Data',
  'EvalData',
  'Weights',
  'create_mesh',
  'create_model',
  'create_network',
  'create_optimizer',
  'eval_transform',
  'fit_weights',
  'frozen_weights',
  'initial_params',
  'load_weights',
  'open_data',
  'open_eval_data',
  'open_split',
  'profiled_steps',
  'record_derived',
]
