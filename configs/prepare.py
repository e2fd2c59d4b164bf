"""Downloads and prepares what TensorFlow Datasets (TFDS) can.

  python -m vit_jax.main --config=configs/prepare.py:DATASETS \\
      --config.data.dir=DATA

DATASETS, separated by commas, are `vtab` for the data of all 19 tasks (the
default), `vtab:TASK`, names of vit_jax/data/catalog.py, or `tfds:BUILDER`. DATA
is where the data goes; leave it out for TFDS's own folder, and name the same
one when you train. Files that have to be downloaded by hand belong in
`--config.data.manual_dir`.

What is there already stays as it is. What fails, for want of files or of the
network, is named at the end with its reason; the same command again goes on
with it. Hardware: none but disk; all of VTAB downloads 82 GiB (36 of Sun397, 18
of CLEVR, 12 of KITTI), and leaves Resisc45 and Diabetic Retinopathy to be
fetched by hand.
"""

import ml_collections

from vit_jax import config as config_lib


def get_config(argument: str = 'vtab') -> ml_collections.ConfigDict:
  """The config for names of datasets, separated by commas."""
  config = config_lib.base(job='prepare')
  config.prepare.datasets = argument
  return config
