"""The VTAB score: fine-tunes a checkpoint on 19 tasks of 1,000 images each.

  python -m vit_jax.main --config=configs/vtab.py:ViT-B/16 \\
      --config.init_from=PATH

The argument is MODEL, or MODEL,TASK for one task, such as ViT-B/16,dtd; tasks
are listed in vit_jax/data/vtab.py. `configs/prepare.py` fetches the data that
TFDS can fetch (`--config.data.dir` says where it lies, here and there);
Resisc45 and Diabetic Retinopathy have to be downloaded by hand. Tasks without
data are named before anything runs, and `--config.vtab.skip_missing=true` runs
the rest.

Settings, the same for all tasks (Table 4, Appendix B.1.1): 2500 steps of SGD
with momentum 0.9, learning rate 0.01, batch 512, cosine decay, gradients
clipped to norm 1. Images are resized to 448 px, cropped at random to 384 and
mirrored, but not where that would change the label (Kolesnikov et al. 2020,
arXiv 1912.11370, supplement F); test images are resized to 384. The paper does
not tell the warm-up, here 500 steps, nor dropout, here none. Three seeds
(`--config.sweep.seeds`).

To choose another setting by the mean over the tasks' 200 held-out images, as
the paper chose its own:

  --config.sweep.grid='optim.lr=0.001|0.01' \\
  --config.sweep.also='total_steps=500 optim.warmup_steps=100'

Every run lies in TASK/seed-N of the workdir (below the name of the setting, if
that was chosen); the same command again goes on with what is not finished.
`table.txt` has all tasks in the order of Table 9 beside the paper's values,
`vtab.png` the means of groups (Figure 2), `results.json` all numbers. Weights
of the runs are kept with `--config.vtab.keep_weights=true`.

Hardware: a TPU slice of 8 cores; 57 runs of 2500 steps. Expected mean over
tasks (Table 9): ViT-L/16 from ImageNet-21k 72.71, from JFT 76.29; ViT-H/14 from
JFT 77.63 per cent.
"""

import ml_collections

from vit_jax import recipes


def get_config(argument: str = 'ViT-B/16') -> ml_collections.ConfigDict:
  """The config for 'MODEL' or 'MODEL,TASK'."""
  return recipes.vtab(argument)
