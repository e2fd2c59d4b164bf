"""Fine-tunes with each learning rate of Table 4 and repeats the best.

  python -m vit_jax.main --config=configs/sweep.py:ViT-B/16,cifar10 \\
      --config.init_from=PATH

The argument is MODEL,DATASET as in configs/finetune.py. Each rate is tried on a
part of the training set (90 % of Pets and Flowers, 98 % of CIFAR, 99 % of
ImageNet); the accuracy on the rest selects one. With that rate, three runs with
different seeds train on the whole set; `table.txt` and `results.json` contain
the mean and the standard deviation of their test metrics. For ResNets the
BiT-HyperRule with MixUp is tried as well, as in Appendix B.1.1. The same
command resumes.

Any key can be swept, in pre-training too (`--config.sweep.job=pretrain`):

  --config.sweep.grid='optim.lr=0.001|0.01 model.dropout=0.0|0.1'

Hardware: the same as for fine-tuning, for each rate and each seed.
"""

import ml_collections

from vit_jax import config as config_lib
from vit_jax import recipes
from vit_jax.recipes import table_4


def get_config(argument: str = 'ViT-B/16,cifar10') -> ml_collections.ConfigDict:
  """Returns the config for 'MODEL,DATASET'.

  An image folder gets the learning rates of the small datasets, scaled to its
  batch size, and a tenth of its training images selects one.
  """
  config = recipes.finetuning(argument)
  sgd = config_lib.flatten(config)
  config.job = 'sweep'
  row = recipes.TABLE_4.get(config.data.name)
  if not row:
    scale = config.batch_size / 512
    config.sweep.grid = {'optim.lr': tuple(lr * scale for lr in table_4.LRS)}
    return config
  config.sweep.update(train=row.select, val=row.val, grid={'optim.lr': row.lrs})
  if 'ViT' not in config.model.name:
    bit = recipes.finetuning(f'{config.model.name},{config.data.name},bit')
    bit = config_lib.flatten(bit)
    config.sweep.also = (
      {name: bit[name] for name in config_lib.KEYS if bit[name] != sgd[name]},
    )
  return config
