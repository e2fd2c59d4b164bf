"""Vision Transformers (arXiv 2010.11929): models, training, evaluation.

`load(PATH_OR_NAME)` returns a trained model, ready for images.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from vit_jax.build.loaded_model import load

# TensorFlow only reads data here. At every start, whatever the log level, it
# would print that oneDNN may speed up its own networks.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

__all__ = ['load']


def __getattr__(name: str) -> Any:
  """Imports `load` on first use, since it takes seconds."""
  if name != 'load':
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  from vit_jax.build import loaded_model

  return loaded_model.load
