"""Trains ViT-S/16 on ImageNet as in "Better plain ViT baselines".

  python -m vit_jax.main --config=configs/vit_s16_i1k.py
  python -m vit_jax.main --config=configs/vit_s16_i1k.py:300

The argument is the number of epochs, 90 by default. Source: Beyer et al.
(2022), arXiv 2205.01580. Hardware: the authors use a TPUv3-8, where 90 epochs
take 6 to 7 hours. Expected: ImageNet accuracy, without fine-tuning, 76.5 per
cent after 90 epochs and about 80.0 after 300.
"""

import ml_collections

from vit_jax import config as config_lib

EPOCHS = ('90', '300')


def get_config(epochs: str = '90') -> ml_collections.ConfigDict:
  """Returns the config for a number of epochs, 90 or 300.

  Raises:
    ValueError: if the number is another one.
  """
  if epochs not in EPOCHS:
    raise ValueError(
      f'the argument is the number of epochs, {" or ".join(EPOCHS)}, got'
      f' {epochs!r}; set another number by --config.total_epochs.'
    )
  config = config_lib.base(
    job='pretrain',
    batch_size=1024,
    total_epochs=float(epochs),
    eval_every=2500,
    checkpoint_every=2500,
    mixup=0.2,
    mixup_form='augreg',
  )
  config.model.update(
    name='ViT-S/16',
    pool='gap',
    positions='sincos2d',
    representation_size=-1,
    dtype='bfloat16',
  )
  config.data.update(
    name='imagenet2012',
    train='train[:99%]',
    eval='val=train[99%:],test=validation',
    image_size=224,
    randaugment=(2, 10),
    eval_crop='center',
    precrop_size=256,
  )
  config.optim.update(
    name='adam',
    mu_dtype='bfloat16',
    lr=1e-3,
    schedule='cosine',
    warmup_steps=10_000,
    weight_decay=0.1,
    clip_norm=1.0,
  )
  return config
