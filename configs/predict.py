"""Names what is on your photos.

  python -m vit_jax.main --config=configs/predict.py:PHOTOS \\
      --config.init_from=PATH

PHOTOS are image files and folders, separated by commas; folders are searched at
any depth. PATH is a trained checkpoint with its head, of any format that
`vit_jax.checkpoints.load` reads; the model and the size of its images follow
from it. Each image gets a line with its five likeliest classes and their
probabilities, printed and in `predictions.jsonl`, and is turned as its EXIF
orientation says. A file that cannot be read is named, and the others go on.

The classes have the names that the run's `results.json` or the Hugging Face
`config.json` beside the checkpoint gives; or numbers; or, with

  --config.predict.class_names=FILE

those of a file: a name a line, or JSON, a list or {INDEX: NAME} or
{INDEX: [WORDNET_ID, NAME]}. For models trained with a sigmoid add
`--config.loss=sigmoid`. Hardware: any.
"""

import ml_collections

from vit_jax import config as base_config


def get_config(paths: str = '') -> ml_collections.ConfigDict:
  """The config for images at `paths`."""
  config = base_config.base(job='predict', batch_size=32)
  config.model.name = ''
  config.data.image_size = 0
  config.predict.paths = paths
  return config
