"""Trains ViT-S/16 on your own images, from scratch.

  python -m vit_jax.main --config=configs/folder.py:PATH

PATH has one folder per class, `PATH/CLASS/*.jpg`, and about a fifth of the
images become the test split; or it has splits, `PATH/train/CLASS/*.jpg`,
`PATH/test/CLASS/*.jpg` and optionally `PATH/val/CLASS/*.jpg`. These folders may
also be named training, testing, valid or validation, in upper or lower case; if
there is none for test, val is used instead. Subfolders of a class are included.
Hardware: one GPU or TPU core; on a CPU use a smaller model, for example

  --config.model.name=ViT-Ti/16 --config.data.image_size=64

Labels may also stand in a table, as CSV, TSV or JSON Lines:

  python -m vit_jax.main --config=configs/folder.py:table:FILE

Its columns `path` and `label`, and optionally `split`, are found by their usual
names, or named by `table:FILE,path=COL,label=COL,split=COL`. Paths are relative
to the folder of the table, or to DIR in `table:FILE,root=DIR`. If images have
several labels, separated by `|` or in JSON lists, add `--config.loss=sigmoid`.

The settings are our choice, for hundreds to tens of thousands of images; "From
scratch" in docs/results.md compares them with other recipes.
"""

import ml_collections

from vit_jax import config as config_lib


def get_config(path: str = 'PATH') -> ml_collections.ConfigDict:
  """Returns the config for the images in `path`: 100 epochs of Adam."""
  config = config_lib.base(
    job='pretrain',
    batch_size=64,
    total_epochs=100.0,
    eval_every=500,
    checkpoint_every=500,
  )
  config.model.update(name='ViT-S/16', dropout=0.1)
  name = path if path.startswith('table:') else f'folder:{path}'
  config.data.update(name=name, image_size=224, crop_area=0.3)
  config.optim.update(name='adam', lr=5e-4, weight_decay=0.1, clip_norm=1.0)
  config.optim.update(schedule='cosine', warmup_steps=-1, ema_decay=0.9999)
  return config
