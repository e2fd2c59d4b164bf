"""Loading, adapting and exporting model weights."""

from vit_jax.checkpoints.description import Description, Evaluation
from vit_jax.checkpoints.exporting import export
from vit_jax.checkpoints.fitting import adapt
from vit_jax.checkpoints.loading import load, load_with_description

__all__ = [
  'Description',
  'Evaluation',
  'adapt',
  'export',
  'load',
  'load_with_description',
]
