"""Downloads and prepares datasets with TensorFlow Datasets (TFDS).

  python -m vit_jax.main --config=configs/prepare.py:DATASETS \\
      --config.data.dir=DATA

DATASETS, separated by commas, are `vtab` for the data of all 19 tasks (the
default), `vtab:TASK`, names in vit_jax/data/catalog.py, or `tfds:BUILDER`. DATA
is the data folder, by default that of TFDS; give the same one when you train.

Prepared datasets are left as they are. Datasets that fail, because of missing
files or the network, are listed at the end with the reason; the same command
tries them again. Files that have to be downloaded by hand, such as those of
Resisc45 and Diabetic Retinopathy, belong in `--config.data.manual_dir`.
Hardware: any, with enough disk space. The other VTAB tasks take 82 GiB to
download (36 for Sun397, 18 for CLEVR, 12 for KITTI).
"""

import ml_collections

from vit_jax import config as config_lib
from vit_jax.data.preparation import kinds


def get_config(datasets: str = 'vtab') -> ml_collections.ConfigDict:
  """Returns the config for datasets separated by commas."""
  config = config_lib.base(job='prepare')
  if datasets.partition(':')[0] in kinds.KINDS:
    datasets = (datasets,)  # The path may contain commas.
  config_lib.set_keys(config, {'prepare.datasets': datasets})
  return config
