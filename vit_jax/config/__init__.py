"""Configs: the table of keys, defaults, overrides, checks, derived values.

A file in `configs/` starts from `base(job=...)`, sets the keys of its
experiment and returns the result. The command line overrides keys; only then
are they checked, and derived values computed.
"""

from vit_jax.config.base import (
  base,
  changed_keys,
  check,
  flatten,
  leave_to_checkpoint,
  set_keys,
)
from vit_jax.config.derived import (
  channels,
  eval_splits,
  held_out_metric,
  image_size,
  model_options,
  profiled_steps,
  total_steps,
  warmup_steps,
)
from vit_jax.config.keys import KEYS
from vit_jax.config.subject import Subject, load_run, parse_subject
from vit_jax.config.values import as_text, check_name, from_json

__all__ = [
  'KEYS',
  'Subject',
  'as_text',
  'base',
  'changed_keys',
  'channels',
  'check',
  'check_name',
  'eval_splits',
  'flatten',
  'from_json',
  'held_out_metric',
  'image_size',
  'leave_to_checkpoint',
  'load_run',
  'model_options',
  'parse_subject',
  'profiled_steps',
  'set_keys',
  'total_steps',
  'warmup_steps',
]
