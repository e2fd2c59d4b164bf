"""Draws what a model has learnt: section 4.5, Figures 6, 7, 10 and 14.

  python -m vit_jax.main --config=configs/inspect_model.py:RUN
  python -m vit_jax.main --config=configs/inspect_model.py:MODEL,DATASET \\
      --config.init_from=PATH

RUN is the workdir of a run, or a weight file in it, inspected on images of its
own data. PATH is any checkpoint that `vit_jax.checkpoints.load` reads, with or
without a head, and MODEL its name, such as ViT-B/16; left empty, as in
`:,cifar10`, the model follows from the weights. Without init_from the weights
are random, by `seed`, as a baseline; MODEL and `--config.data.image_size` are
then needed. DATASET is a name of `vit_jax/data/catalog.py`, `digits`,
`tfds:BUILDER` or `folder:PATH`; left empty, as in `:ViT-B/16,`, only photos are
looked at. With

  --config.inspect.paths=PHOTOS

attention is drawn on image files of one's own. The size of images is that of
the checkpoint; for `--config.data.image_size=384`, and for images that are not
square with `--config.data.image_width` beside it, positions are interpolated.

Leaves pictures, their arrays in `inspection.npz`, and their numbers in
`results.json`:

- `filters.png`, principal components of the first layer's filters;
- `position_similarity.png`, cosines between position embeddings;
- `attention_distance.png`, how far each head looks, over 128 images
  (`inspect.num_images`) of the split `test`, or the first of `data.eval`;
- `rollout.png`, which parts of images reach the class token, or the mean of
  tokens where there is none;
- `attention_maps_N.png`, the same for single heads, for each image drawn.

Of a ResNet there are filters alone. Hardware: any. Expected, by section 4.5 and
Appendix D.7: filters that look like basis functions; positions most like those
in their row and column; in the first layer heads that look far beside heads
that look near, and distances that grow with depth.
"""

import ml_collections

from vit_jax import config as base_config
from vit_jax.data import catalog


def get_config(
  argument: str = 'ViT-B/16,imagenet2012',
) -> ml_collections.ConfigDict:
  """The config for 'MODEL,DATASET' or for 'RUN'."""
  config = base_config.base(job='inspect_model', batch_size=16)
  config.model.name = ''
  config.data.image_size = 0
  model, comma, dataset = argument.partition(',')
  if comma:
    config.model.name = model
    known = catalog.DATASETS.get(dataset)
    splits = known.num_examples if known else ('test',)
    split = next(s for s in ('test', 'validation', 'train') if s in splits)
    config.data.update(name=dataset, eval=f'test={split}')
  else:
    of_run, config.init_from = base_config.of_run(argument)
    config.update_from_flattened_dict(
      {k: v for k, v in of_run.items() if k.startswith('data.')}
    )
  return config
