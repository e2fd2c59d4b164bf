"""Few-shot linear accuracy: how much a checkpoint's features tell.

  python -m vit_jax.main --config=configs/few_shot.py:MODEL,DATASET \\
      --config.init_from=PATH
  python -m vit_jax.main --config=configs/few_shot.py:RUN

PATH is any checkpoint that `vit_jax.checkpoints.load` reads, with or without a
head, and MODEL its name, such as ViT-B/16; left empty, as in `:,cifar100`, the
model follows from the weights. RUN is the workdir of a run, or a weight file in
it: its features, on its own data. Without init_from the weights are random, by
`seed`, as a baseline; MODEL and `--config.data.image_size` are then needed.

DATASET is a name of `vit_jax/data/catalog.py`, `digits`, `tfds:BUILDER` or
`folder:PATH`; several are separated by commas, each may go by a name of its own
and with splits of its own, to learn from and to test on:

  --config.few_shot.datasets='pets=oxford_iiit_pet,cifar100|train[:1000]|test'

From 1, 5, 10 and 25 images a class (`few_shot.shots`), drawn three times
(`few_shot.seeds`), a linear map from the whitened features to {-1, 1}^K is
solved by regularised least squares (section 4.1). A class with fewer images
takes part with all it has. Images are resized to 256 px and cut to the middle
224, and so in proportion for other sizes: by default that of the checkpoint, or
`--config.data.image_size`, for which positions are interpolated.

A training run does the same every so many steps with `few_shot.every` and
`few_shot.datasets`. Hardware: any. Prints a table and leaves `results.json`.
Expected: the paper shows 5-shot accuracies in figures; Table 8 has 64.2 per
cent for ViT-B/16 on ImageNet.
"""

import ml_collections

from vit_jax import config as base_config


def get_config(
  argument: str = 'ViT-B/16,imagenet2012',
) -> ml_collections.ConfigDict:
  """The config for 'MODEL,DATASET' or for 'RUN'."""
  config = base_config.base(job='few_shot', batch_size=256)
  config.model.name = ''
  config.data.image_size = 0
  model, comma, datasets = argument.partition(',')
  if comma:
    config.model.name = model
    config.few_shot.datasets = datasets
  else:
    of_run, config.init_from = base_config.of_run(argument)
    config.few_shot.datasets = of_run['data.name']
    config.data.update(
      {key: of_run[f'data.{key}'] for key in ('dir', 'manual_dir', 'download')}
    )
  return config
