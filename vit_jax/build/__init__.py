"""Builds the parts of a job from its config: data, model, weights, program.

Only this package and the jobs read the config.
"""

from vit_jax.build.batch_size import eval_batch_size
from vit_jax.build.data import (
  Data,
  EvalData,
  decoder,
  eval_batches,
  eval_transform,
  has_multi_label_metrics,
  match_classes,
  open_data,
  open_eval_data,
  open_split,
  open_train,
  score_names,
  with_labels_of,
)
from vit_jax.build.model import create_model, record_derived
from vit_jax.build.weights import (
  Weights,
  fit_weights,
  initial_params,
  load_weights,
  set_image_kind,
)

__all__ = [
  'Data',
  'EvalData',
  'Weights',
  'create_model',
  'decoder',
  'eval_batch_size',
  'eval_batches',
  'eval_transform',
  'fit_weights',
  'has_multi_label_metrics',
  'initial_params',
  'load_weights',
  'match_classes',
  'open_data',
  'open_eval_data',
  'open_split',
  'open_train',
  'record_derived',
  'set_image_kind',
  'score_names',
  'with_labels_of',
]
