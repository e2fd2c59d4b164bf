"""Fine-tunes a checkpoint (Appendix B.1.1, Table 4).

  python -m vit_jax.main --config=configs/finetune.py:ViT-B/16,cifar10 \\
      --config.init_from=PATH

The argument is MODEL,DATASET. MODEL is that of the checkpoint, PATH anything
that `vit_jax.checkpoints.load` reads: an official, AugReg, BiT or big_vision
npz, safetensors of timm or Hugging Face, or the folder of a run.
DATASET is imagenet2012, cifar100, cifar10, oxford_iiit_pet or
oxford_flowers102, or, for your own images, folder:PHOTOS or table:FILE (see
configs/folder.py).

A third part selects another setting: `MODEL,imagenet2012,table2`, the larger
images and averaged weights of Table 2 (ViT-L/16 at 512 px, ViT-H/14 at 518 px);
`MODEL,DATASET,bit`, the BiT-HyperRule with MixUp for ResNets, at 128 px on
CIFAR and 480 px on other datasets, or at 384 px with `MODEL,DATASET,bit384`.

Settings: SGD with momentum 0.9, batch 512, 384 px (378 for patches of 14 px,
our choice), cosine decay after a warm-up of 500 steps (100 in runs of 500),
gradients clipped to norm 1, no weight decay; dropout 0.1 for ViT-L/16, ViT-H/14
and R50+ViT-B/16. The learning rate is 0.03; `configs/sweep.py` tries all rates
of Table 4.

Your own images: batch 64 and learning rate 0.03 * 64 / 512; scale the rate in
the same way when you change the batch size. Runs take 20 epochs or 500 steps,
whichever is longer, since a new head needs a few hundred steps.
`--config.class_weights=balanced` makes up for classes of unequal size.
`--config.optim.freeze='(?!head/).*'` trains only the head.
`--config.optim.name=adam --config.optim.lr=1e-3
--config.optim.layer_decay=0.75` lowers the rate per block, from the head down.

Hardware: a TPU slice of 8 cores for 384 px and batch 512; batch 64 fits on one
GPU. Expected: ViT-B/16 from ImageNet-21k reaches 98.95 per cent on CIFAR-10 and
83.97 on ImageNet (Table 5).
"""

import contextlib
import itertools
import math

import ml_collections

from vit_jax import recipes
from vit_jax.checkpoints import location
from vit_jax.data import listing, table


def get_config(argument: str = 'ViT-B/16,cifar10') -> ml_collections.ConfigDict:
  """Returns the config for 'MODEL,DATASET' or 'MODEL,DATASET,SETTING'."""
  config = recipes.finetuning(argument)
  if count := _count_images(config.data.name, limit=25 * config.batch_size):
    config.total_epochs = float(
      max(20, math.ceil(500 * config.batch_size / count))
    )
  return config


def _count_images(data: str, limit: int) -> int:
  """Counts up to `limit` images of a folder or table; 0 for other datasets."""
  kind, _, path = data.partition(':')
  if kind == 'folder' and (folder := location.expand(path)).is_dir():
    return listing.count_images(folder, limit)
  if kind == 'table':
    with contextlib.suppress(ValueError):  # Raised again when it is opened.
      rows = table.Table.parse(path).rows(['path'])
      return sum(1 for _ in itertools.islice(rows, limit))
  return 0
