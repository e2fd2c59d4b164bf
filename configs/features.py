"""Writes features (embeddings) of all images of a dataset.

  python -m vit_jax.main --config=configs/features.py:RUN
  python -m vit_jax.main --config=configs/features.py:RUN,DATASET
  python -m vit_jax.main --config=configs/features.py:MODEL,DATASET \\
      --config.init_from=PATH

RUN is the workdir of a run, or a weight file in it, with its own data or with
DATASET. Otherwise PATH is any checkpoint that `vit_jax.checkpoints.load` reads,
with or without a head, and MODEL the name of its model, such as ViT-B/16; if
MODEL is empty, as in `:,cifar10`, the weights determine the model. Image size,
crop and interpolation are those that the checkpoint records, unless
`--config.data.image_size`, `eval_crop` or `eval_interpolation` is set.

DATASET is a name in `vit_jax/data/catalog.py`, `digits`, `tfds:BUILDER`,
`folder:PATH` or `table:FILE`. Features are computed for the training split,
`data.train`, and the splits of `data.eval`; with
`--config.features.train=false`, only for the latter. For each,
`features_SPLIT.npz` has the arrays `features` (n, d), `label`, `index`,
`example` (a name or path) and `class_names`; with
`--config.features.parquet=true`, `features_SPLIT.parquet` has the same as
columns. `data.skip_corrupt` leaves out images that cannot be read.

`--config.features.layer` is `pooled` (the representation), `pre_logits` (the
input of the last layer of the head), `class_token` or `patch_mean` (the mean of
the patch tokens). For the last two, `--config.features.blocks=-1,-2` takes them
after these encoder blocks, and concatenates the vectors.
`--config.features.normalise=true` scales each vector to length 1.

The job also measures the accuracy of nearest neighbours on the splits of
`data.eval`: an image is given the label of the image of `data.train` with the
highest cosine similarity, or the most frequent label of the
`features.neighbours` nearest ones. With `features.train=false`, neighbours are
from the same split, and no image is its own neighbour.
`report.html` shows the most similar pairs.

Repeating the command resumes after the last batch. Several processes share the
batches; they write the same files as a single process if all have the same
number of devices. Hardware: any. Expected: docs/results.md has the accuracy of
a DINOv2 model on 12 classes of flowers.
"""

import ml_collections

from vit_jax import config as config_lib
from vit_jax.data import catalog


def get_config(
  argument: str = 'ViT-B/16,imagenet2012',
) -> ml_collections.ConfigDict:
  """Returns the config for 'RUN', 'RUN,DATASET' or 'MODEL,DATASET'."""
  config = config_lib.base(job='features', batch_size=64)
  config_lib.leave_to_checkpoint(config)
  subject = config_lib.parse_subject(argument)
  subject.apply(config)
  if subject.dataset is not None:
    known = catalog.DATASETS.get(subject.dataset)
    splits = known.num_examples if known else ('train', 'test')
    held_out = [name for name in ('test', 'validation') if name in splits]
    config.data.update(name=subject.dataset, eval=''.join(held_out[:1]))
    config.features.train = 'train' in splits
  return config
