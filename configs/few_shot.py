"""Few-shot linear accuracy: how good are the frozen features?

  python -m vit_jax.main --config=configs/few_shot.py:MODEL,DATASETS \\
      --config.init_from=PATH
  python -m vit_jax.main --config=configs/few_shot.py:RUN
  python -m vit_jax.main --config=configs/few_shot.py:RUN,DATASETS

PATH is any checkpoint that `vit_jax.checkpoints.load` reads, with or without a
head, and MODEL the name of its model, such as ViT-B/16; if MODEL is empty, as
in `:,cifar100`, the weights determine the model. RUN is the workdir of a run,
or a weight file in it, which is evaluated on its own data or on DATASETS.
Without init_from the weights are random, a baseline; set MODEL and
`--config.data.image_size`.

A dataset is a name in `vit_jax/data/catalog.py`, `digits`, `tfds:BUILDER`,
`folder:PATH` or `table:FILE`. Several are separated by commas; each may have a
name, a training split and a test split:

  --config.few_shot.datasets='pets=oxford_iiit_pet,cifar100|train[:1000]|test'

From 1, 5, 10 and 25 images per class (`few_shot.shots`), drawn three times
(`few_shot.seeds`), a linear map from the whitened features to {-1, 1}^K is
fitted by regularized least squares (section 4.1). Classes with fewer images use
all they have. Images are resized to 256 px and cropped to the central 224 px;
other sizes are in proportion. The size is that at which the checkpoint was
trained, or `--config.data.image_size`, to which position embeddings are
interpolated.

Prints a table and writes `results.json`. Training runs evaluate few-shot
accuracy every `few_shot.every` steps on `few_shot.datasets`. Hardware: any.
Expected: 64.2 per cent for ViT-B/16 on ImageNet with 5 shots (Table 8); other
5-shot accuracies are in figures of the paper.
"""

import ml_collections

from vit_jax import config as config_lib


def get_config(
  argument: str = 'ViT-B/16,imagenet2012',
) -> ml_collections.ConfigDict:
  """Returns the config for 'RUN', 'RUN,DATASETS' or 'MODEL,DATASETS'."""
  config = config_lib.base(job='few_shot', batch_size=256)
  config.data.image_size = 0
  subject = config_lib.parse_subject(argument)
  subject.apply(config)
  if subject.dataset is None:
    config.few_shot.datasets = (config.data.name,)
  else:
    config_lib.set_keys(config, {'few_shot.datasets': subject.dataset})
  return config
