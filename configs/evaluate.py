"""Evaluates a checkpoint on any dataset: top-1, top-5 and per-class accuracy.

  python -m vit_jax.main --config=configs/evaluate.py:RUN
  python -m vit_jax.main --config=configs/evaluate.py:RUN,DATASET
  python -m vit_jax.main --config=configs/evaluate.py:MODEL,DATASET \\
      --config.init_from=PATH

RUN is the workdir of a run, or a weight file in it: it is evaluated on its own
data, with its `data` keys, or on DATASET, which has the same classes. PATH is
any other checkpoint with a head, such as a published one, and MODEL the name of
its model, such as ViT-B/16; if MODEL is empty, as in `:,cifar10`, the weights
determine the model. Image size, crop and interpolation are those that the
checkpoint records, unless `--config.data.image_size`, `eval_crop` or
`eval_interpolation` is set.

Classes are matched by name, so the data may have them in another order, or only
some of them; the model still chooses among all of its classes, unless
`--config.evaluate.restricted=true` is set. Classes that the checkpoint lacks
are an error. Folder names that are numbers, such as 0 to 999 in ImageNet-V2,
are taken as labels. If the checkpoint or the data has no class names, or with
`--config.data.match_classes=index`, classes are matched by index, and the log
says so.

DATASET is a name in `vit_jax/data/catalog.py` (such as `imagenet_v2`),
`tfds:BUILDER`, `folder:PATH` (its test split) or `objectnet:PATH`:

- `imagenet2012`: `--config.evaluate.real_json=FILE` adds ReaL accuracy; FILE is
  `real.json` from github.com/google-research/reassessed-imagenet.
- `imagenet2012_real`: the same labels through TFDS.
- `objectnet:PATH`, the release with its folders `images` and `mappings`: scores
  a model of the 1,000 ImageNet classes on images of the 113 shared classes. The
  border of 2 px is removed before the checkpoint's own crop. With
  `--config.evaluate.objectnet_restricted=true` the model chooses only among
  these 113.

If images have several labels and the loss is a sigmoid, average precision and
F1 are measured as well, for labels above `--config.label_threshold=0.5`.

Prints tables and writes `results.json`, `per_class.csv` and
`predictions_SPLIT.jsonl`. Hardware: any.

Expected: ViT-H/14 pre-trained on JFT-300M reaches 88.55 per cent on ImageNet,
90.72 on ReaL (Table 2), and 61.7 on ObjectNet (Appendix D.9).
"""

import ml_collections

from vit_jax import config as config_lib
from vit_jax.data import catalog


def get_config(
  argument: str = 'ViT-B/16,imagenet2012',
) -> ml_collections.ConfigDict:
  """Returns the config for 'RUN', 'RUN,DATASET' or 'MODEL,DATASET'."""
  config = config_lib.base(job='evaluate', batch_size=256)
  config_lib.leave_to_checkpoint(config)
  subject = config_lib.parse_subject(argument)
  subject.apply(config)
  config.loss = subject.run.get('loss', config.loss)
  if subject.dataset is not None:
    _set_dataset(config, subject.dataset)
  return config


def _set_dataset(config, dataset):
  if dataset.startswith('objectnet:'):
    release = dataset.removeprefix('objectnet:')
    config.data.update(
      name=f'folder:{release}/images',
      eval='test=train+test',  # All images; none are for training.
      trim_px=2,
    )
    config.evaluate.objectnet_mappings = f'{release}/mappings'
    return
  split = catalog.evaluated_split(dataset)
  config.data.update(name=dataset, eval=f'test={split}')
