"""Fine-tunes with each learning rate of Table 4 and repeats the best.

  python -m vit_jax.main --config=configs/sweep.py:ViT-B/16,cifar10 \\
      --config.init_from=PATH

The argument is MODEL,DATASET as in configs/finetune.py. Each rate trains on a
part of the training set (90 % of Pets and Flowers, 98 % of CIFAR, 99 % of
ImageNet), the rest chooses one; with that, three seeds train on all of it, and
mean and standard deviation of their test scores stand in `table.txt` and
`results.json`. For ResNets the BiT-HyperRule with MixUp is tried as well, as
Appendix B.1.1 does. The same command again goes on with what is not finished.

Any keys can be swept, by any supervised job:

  --config.sweep.grid='optim.lr=0.001|0.01 model.dropout=0.0|0.1'

Hardware: as for fine-tuning, once for each rate and each seed.
"""

import ml_collections

from vit_jax import recipes


def get_config(
  argument: str = 'ViT-B/16,cifar10',
) -> ml_collections.ConfigDict:
  """The config for 'MODEL,DATASET'."""
  return recipes.sweep(argument)
