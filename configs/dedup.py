"""Finds near-duplicates of test images in a pre-training set.

  python -m vit_jax.main --config=configs/dedup.py:imagenet21k

The paper removes them before pre-training (section 4.1, after Kolesnikov et
al., "Big Transfer", 2020). The argument is the pre-training set;
`--config.data.train` is its split. By default, the test images are those of the
paper's transfer tasks: ImageNet, CIFAR-10 and -100, Pets, Flowers and the other
tasks of VTAB. Test sets that are not prepared are left out, with a warning.
Choose others with

  --config.dedup.against=DATASET=SPLIT,DATASET=SPLIT

Finds exact copies, and copies that were re-encoded, mirrored, slightly
brightened, or cropped to no less than 90 per cent of each side.

Writes `pairs.png`, the least similar pairs (the example, then the test image),
to help you choose `--config.dedup.threshold`; `pairs.jsonl`, all pairs; and
`exclude.json`. To train without these examples, on the same split or a part of
it:

  python -m vit_jax.main --config=configs/vit_b16.py:imagenet21k \\
      --config.data.exclude=runs/dedup-imagenet21k/exclude.json

Hardware: CPUs; needs `pip install -e '.[dedup]'`. Expected: the images are read
and decoded once, which takes most of the time. The same command resumes.
"""

import ml_collections

from vit_jax import config as config_lib
from vit_jax.data import vtab_tasks


def _vtab_test_sets() -> list[str]:
  """Returns the test sets of VTAB; tasks on the same images share one."""
  names = {}
  for name, task in vtab_tasks.TASKS.items():
    names.setdefault((task.dataset.builder, task.test), name)
  return [f'vtab:{name}=test' for name in names.values()]


def get_config(data: str = 'imagenet21k') -> ml_collections.ConfigDict:
  """Returns the config for a pre-training set."""
  config = config_lib.base(job='dedup', batch_size=1024)
  config.data.name = data
  config.dedup.against = (
    'imagenet2012=validation',
    'cifar10=test',
    *_vtab_test_sets(),
  )
  config.dedup.skip_missing = True
  return config
