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

from vit_jax import recipes


def get_config(argument: str = 'ViT-B/16,cifar10') -> ml_collections.ConfigDict:
  """Returns the config for 'MODEL,DATASET'."""
  config = recipes.finetuning(argument)
  config.job = 'sweep'
  config.sweep.update(recipes.trials(config))
  return config
