"""Prepares datasets: those of TensorFlow Datasets (TFDS), or your own images.

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

Your own images are written as a dataset that TFDS reads, in shuffled TFRecord
files, which is faster to train on than many small files:

  python -m vit_jax.main --config=configs/prepare.py:SOURCE \\
      --config.prepare.name=NAME --config.data.dir=DATA

Train on it with `--config.data.name=tfds:NAME`. SOURCE is one of these; any
PATH may be on gs://:

  folder:PATH      class folders, with or without train, val and test above
  table:FILE       CSV, TSV or JSON Lines file of paths and labels, with the
                   options of `table:` in vit_jax/data/table.py
  tars:PATH        a tar per class, or the tar of these tars, as in the release
                   of ImageNet-21k; NAME is imagenet21k by default
  webdataset:PATH  shards of WebDataset, with labels in KEY.cls, KEY.json or
                   KEY.txt: a folder, a file, or a pattern such as
                   train-{0000..0146}.tar
  parquet:PATH     Parquet files of images and labels, as on the Hugging Face
                   Hub: a folder, a file or a pattern (requires the extra
                   `parquet`)

Files are stored as they are, except those that TensorFlow cannot read as single
images (GIF, WebP, TIFF, some BMP), which are converted to PNG. Images that
cannot be decoded are listed in `unreadable.txt`. `prepare.duplicates` says what
happens to byte-identical images, `prepare.class_names` orders or names the
classes, and `seed` shuffles. Training reads the images in another order than
from their files, so its results differ slightly. The same command resumes after
an interruption. The result depends on neither interruptions nor
`prepare.workers`.
Hardware: any; a worker process per CPU, each with 0.8 GiB of memory, plus 110
bytes per image. Images are read twice. The disk needs space for the result and
for about 500 bytes per image; if the images are in Parquet files or compressed
archives, space for the result twice.
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
