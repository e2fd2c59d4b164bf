"""Finds near-duplicates of test images in the images to pre-train on.

  python -m vit_jax.main --config=configs/dedup.py:imagenet21k

The paper removes them before pre-training (section 4.1, after Kolesnikov et
al., "Big Transfer", 2020). The argument names the set to pre-train on, with
`--config.data.train` its split. The test images are those of

  --config.dedup.against=DATASET=SPLIT,DATASET=SPLIT

by default of ImageNet and of four of the paper's transfer tasks. Exact copies
are found, and re-encoded, mirrored, slightly brightened or cropped ones, down
to 90 per cent of a side.

It leaves `pairs.png`, the least similar pairs for you to judge (the example,
then the test image; raise or lower `--config.dedup.threshold`), `pairs.jsonl`,
all pairs, and `exclude.json`. Then train without these examples, on the same
split or a part of it:

  python -m vit_jax.main --config=configs/vit_b16.py:imagenet21k \\
      --config.data.exclude=runs/dedup-imagenet21k/exclude.json

Hardware: CPUs; it needs `pip install -e '.[dedup]'`. Expected: the images are
read and decoded once, which takes most of the time. The same command again
goes on where it was interrupted.
"""

import ml_collections

from vit_jax import config as base_config

AGAINST = (
  'imagenet2012=validation',
  'cifar10=test',
  'cifar100=test',
  'oxford_iiit_pet=test',
  'oxford_flowers102=test',
)


def get_config(data: str = 'imagenet21k') -> ml_collections.ConfigDict:
  """The config for the set to pre-train on."""
  config = base_config.base(job='dedup', batch_size=1024)
  config.data.name = data
  config.dedup.against = ','.join(AGAINST)
  return config
