"""Classifies your photos.

  python -m vit_jax.main --config=configs/predict.py:PHOTOS \\
      --config.init_from=PATH

PHOTOS are image files, folders, and tables of paths (`table:FILE`), separated
by commas; folders are searched recursively, and the log lists what is skipped.
PATH is a trained checkpoint with its head, in any format that
`vit_jax.checkpoints.load` reads; it determines the model, image size, crop and
interpolation. Photos are turned upright according to their EXIF orientation.
Each image gets a line with its five most probable classes, which is printed and
written to `predictions.jsonl`. Unreadable files are reported and skipped.

For the model of a run on images with several labels each, or of Hugging Face
with `problem_type` multi_label_classification, each line also has
`predicted_labels`: all labels with a probability above
`--config.label_threshold=0.5`.

Class names are those recorded with the checkpoint, such as in `results.json` of
a run or in `config.json` of Hugging Face, or else numbers. They can be set by

  --config.predict.class_names=FILE

with one name per line, or JSON: a list, {INDEX: NAME} or
{INDEX: [WORDNET_ID, NAME]}. For models that were trained with a sigmoid but do
not record it, such as published ImageNet-21k weights, add
`--config.loss=sigmoid`. Hardware: any.
"""

import ml_collections

from vit_jax import config as config_lib


def get_config(paths: str = '') -> ml_collections.ConfigDict:
  """Returns the config for images at `paths`, separated by commas."""
  config = config_lib.base(job='predict', batch_size=32)
  config_lib.leave_to_checkpoint(config)
  config_lib.set_keys(config, {'predict.paths': paths})
  return config
