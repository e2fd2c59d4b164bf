"""Tables of hyperparameters, and configs made from their rows."""

from vit_jax.recipes.table_3 import TABLE_3, Pretraining, pretraining
from vit_jax.recipes.table_4 import TABLE_4, Finetuning, finetuning, trials

__all__ = [
  'TABLE_3',
  'TABLE_4',
  'Finetuning',
  'Pretraining',
  'finetuning',
  'pretraining',
  'trials',
]
