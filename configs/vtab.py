"""The VTAB score: fine-tunes a checkpoint on 19 tasks of 1,000 images each.

  python -m vit_jax.main --config=configs/vtab.py:ViT-B/16 \\
      --config.init_from=PATH

The argument is MODEL, or MODEL,TASK for one task such as ViT-B/16,dtd; tasks
are listed in vit_jax/data/vtab_tasks.py. `configs/prepare.py` fetches the data
that TFDS can fetch (give both commands the same `--config.data.dir`); Resisc45
and Diabetic Retinopathy have to be downloaded by hand. Tasks without data are
listed before anything runs; `--config.vtab.skip_missing=true` skips them.

Settings of all tasks (Table 4, Appendix B.1.1): 2500 steps of SGD with momentum
0.9, learning rate 0.01, batch 512, cosine decay, gradients clipped to norm 1.
Images are resized to 448 px, cropped to 384 and mirrored at random, except
where that would change the label (Kolesnikov et al. 2020, arXiv 1912.11370,
supplement F); test images are resized to 384. The paper does not state the
warm-up, here 500 steps, or dropout, here that of configs/finetune.py: 0.1 for
ViT-L/16, ViT-H/14 and R50+ViT-B/16. ViT-H/14 takes 378 instead of 384 px, a
multiple of its patches. Each task runs with three seeds
(`--config.sweep.seeds`).

To select among several settings by the mean accuracy on the 200 held-out images
of each task, as the paper did:

  --config.sweep.grid='optim.lr=0.001|0.01' \\
  --config.sweep.also='total_steps=500 optim.warmup_steps=100'

Every run has a folder TASK/seed-N in the workdir, below a folder named after
the setting if it was selected; the same command resumes. `table.txt` has all
tasks in the order of Table 9, beside the values of the paper, `vtab.png` the
means of groups (Figure 2), `results.json` all numbers.
`--config.vtab.keep_weights=true` keeps the weights.

Hardware: a TPU slice of 8 cores, for 57 runs of 2500 steps. Expected mean over
tasks (Table 9): ViT-L/16 from ImageNet-21k 72.71, from JFT 76.29; ViT-H/14 from
JFT 77.63 per cent.
"""

import ml_collections

from vit_jax import config as config_lib
from vit_jax.recipes import table_4


def get_config(argument: str = 'ViT-B/16') -> ml_collections.ConfigDict:
  """Returns the config for 'MODEL' or 'MODEL,TASK[,TASK...]'."""
  model, *tasks = argument.split(',')
  config = config_lib.base(
    job='vtab',
    batch_size=512,
    total_steps=2500,
    checkpoint_every=500,
    keep_checkpoints=1,
  )
  config.model.update(
    name=model, dropout=table_4.DROPOUT.get(model, 0.0), dtype='bfloat16'
  )
  config.data.update(name='vtab', train='train800val200', eval='test')
  # Cropped from an image of 448 px.
  config.data.update(image_size=table_4.image_size(model), crop='random')
  config.optim.update(name='sgd', lr=0.01, momentum=0.9, clip_norm=1.0)
  config.optim.update(schedule='cosine', warmup_steps=500)
  config.sweep.update(train='train800', val='val200', seeds=3)
  config.vtab.tasks = tuple(tasks)
  return config
