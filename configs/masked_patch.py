"""Pre-trains ViT-B/16 without labels, by masked patch prediction (4.6, B.1.2).

  python -m vit_jax.main --config=configs/masked_patch.py
  python -m vit_jax.main --config=configs/masked_patch.py:imagenet2012
  python -m vit_jax.main --config=configs/masked_patch.py:folder:PATH
  python -m vit_jax.main --config=configs/masked_patch.py:digits

Half of the patch embeddings of an image are corrupted, and the model predicts
the mean colour of these patches, one of 512. The other targets of the paper are
`--config.masked_patch.target=downsized`, 4x4 such colours, and `=pixels`; it
reports `--config.masked_patch.rate=0.15` to be slightly worse.

Settings of the paper: JFT-300M, a million steps of 4,096 images (14 epochs),
Adam at 2e-4 after a warm-up of 10,000 steps, cosine decay, inception crop to
224 px and random flips. It does not state the weight decay; 0.1 is that of its
other runs on JFT-300M. Most of the gain is reached after 100,000 steps
(`--config.total_steps=100000`), and ImageNet gives similar gains.

`folder:PATH` trains a ViT-S/16 on your own images with settings of our choice;
the folders are laid out as for configs/folder.py, but class names do not
matter. `digits` takes two minutes on two cores.

Metrics: loss and accuracy of predicting the colours of corrupted patches, and
the accuracy of always predicting the most common one. Every
`masked_patch.picture_every` steps, `patches_STEP.png` shows images, corrupted
and predicted. `final.npz` can be fine-tuned and evaluated like any checkpoint,
which drops the mask token and the prediction head.

The loss does not depend on the class token. Fine-tuning makes up for that; for
frozen features use `--config.model.pool=gap`.

Hardware: a TPU slice. Expected: 79.9 per cent on ImageNet after fine-tuning,
2 points above training from scratch and 4 below supervised pre-training.
"""

import ml_collections

from vit_jax import config as config_lib
from vit_jax.recipes import table_3


def get_config(data: str = 'jft300m') -> ml_collections.ConfigDict:
  """Returns the config for a pre-training set, own images, or 'digits'.

  Raises:
    ValueError: if there are no settings for the dataset.
  """
  config = config_lib.base(
    job='masked_patch',
    batch_size=4096,
    total_steps=1_000_000,
    eval_every=5000,
    checkpoint_every=2500,
  )
  config.model.update(name='ViT-B/16', dtype='bfloat16')
  config.data.update(name=data, image_size=224)
  config.optim.update(name='adam', lr=2e-4, weight_decay=0.1)
  config.optim.update(schedule='cosine', warmup_steps=10_000)
  config.masked_patch.picture_every = 5000
  if data in table_3.SPLITS:
    config.data.update(table_3.SPLITS[data])
    return config
  # Our choice for a few thousand images on one device.
  config.update(eval_every=500, checkpoint_every=500)
  config.model.dtype = 'float32'
  config.optim.update(lr=1e-3, warmup_steps=-1)
  config.masked_patch.picture_every = 500
  if data == 'digits':
    config.update(batch_size=128, total_steps=2000)
    config.model.update(
      name='ViT-Ti/2', depth=4, width=64, mlp_dim=256, heads=4
    )
    config.data.update(image_size=8, crop='resize', flip=False)
  elif data.startswith(('folder:', 'table:')):
    config.update(batch_size=64, total_steps=0, total_epochs=200.0)
    config.model.name = 'ViT-S/16'
    config.data.crop_area = 0.3
  else:
    raise ValueError(
      f'there is no masked patch prediction on {data!r}; choose one of'
      f' {", ".join(table_3.SPLITS)}, digits, folder:PATH or table:FILE.'
    )
  return config
