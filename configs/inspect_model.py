"""Draws what a model has learned (section 4.5, Figures 6, 7, 10 and 14).

  python -m vit_jax.main --config=configs/inspect_model.py:RUN
  python -m vit_jax.main --config=configs/inspect_model.py:RUN,DATASET
  python -m vit_jax.main --config=configs/inspect_model.py:MODEL,DATASET \\
      --config.init_from=PATH

RUN, MODEL, DATASET and PATH are the same as in configs/features.py.
`--config.inspect.paths=PHOTOS` visualizes attention on your own image files,
and on no others if DATASET is empty, as in `:ViT-B/16,`. The image size is that
at which the checkpoint was trained; position embeddings are interpolated to
another `--config.data.image_size`, with `--config.data.image_width` if images
are not square.

Writes pictures, their arrays in `inspection.npz`, and their numbers in
`results.json`:

- `filters.png`, principal components of the first layer's filters;
- `position_similarity.png`, cosine similarities of position embeddings;
- `attention_distance.png`, the attention distance of each head, over 128 images
  (`inspect.num_images`) of the split `test`, or the first of `data.eval`;
- `rollout.png`, attention rollout: the share of each patch in the
  representation, over all layers;
- `attention_maps_N.png`, for each image drawn, the attention of single heads
  from the class token or, if pooling does not use it, from the pooled tokens;
- `attention_1.html`, an interactive page that shows what each patch of the
  first image attends to, by layer and head (`inspect.pages` sets the number of
  images).

A ResNet has only filters. Hardware: any. Expected (section 4.5, Appendix D.7):
filters that look like basis functions; positions most similar to those in their
row and column; both local and global heads in the first layer, and distances
that grow with depth.
"""

import ml_collections

from vit_jax import config as config_lib
from vit_jax.data import catalog


def get_config(
  argument: str = 'ViT-B/16,imagenet2012',
) -> ml_collections.ConfigDict:
  """Returns the config for 'RUN', 'RUN,DATASET' or 'MODEL,DATASET'."""
  config = config_lib.base(job='inspect_model', batch_size=16)
  config_lib.leave_to_checkpoint(config)
  subject = config_lib.parse_subject(argument)
  subject.apply(config)
  if subject.dataset is not None:
    split = catalog.evaluated_split(subject.dataset)
    config.data.update(name=subject.dataset, eval=f'test={split}')
  return config
