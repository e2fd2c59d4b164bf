"""The paper's tables of settings, and configs made from their rows."""

from vit_jax.recipes.table_3 import TABLE_3, masked_patches, pretraining
from vit_jax.recipes.table_4 import TABLE_4, finetuning, sweep, vtab

__all__ = [
  'TABLE_3',
  'TABLE_4',
  'finetuning',
  'masked_patches',
  'pretraining',
  'sweep',
  'vtab',
]
