"""Pre-trains ViT-B/16 without labels, by masked patch prediction (4.6, B.1.2).

  python -m vit_jax.main --config=configs/masked_patch.py
  python -m vit_jax.main --config=configs/masked_patch.py:imagenet2012
  python -m vit_jax.main --config=configs/masked_patch.py:folder:PATH
  python -m vit_jax.main --config=configs/masked_patch.py:digits

Half of an image's patch embeddings are corrupted, and what was there is to be
told: its mean colour, one of 512. The paper's other targets are
`--config.masked_patch.target=downsized`, 4x4 such colours, and `=pixels`;
`--config.masked_patch.rate=0.15` is the rate that it found slightly worse.

Settings of the paper: JFT-300M, a million steps of 4,096 images (14 epochs),
Adam at 2e-4 after a warm-up of 10,000 steps, cosine decay, inception crop to
224 px and random flips. It does not say the weight decay; 0.1 is that of its
other runs on JFT-300M. Most of the gain is there after 100,000 steps, and
ImageNet gives similar gains: `--config.total_steps=100000`.

`folder:PATH` is for your own images, in folders as for `configs/folder.py`,
whose names do not matter: a ViT-S/16 and settings of our choice. `digits` takes
two minutes on two cores.

Metrics: loss and accuracy of the colours of corrupted patches, and the accuracy
of always saying the commonest of these colours. Every `masked_patch.
picture_every` steps, `patches_STEP.png` shows images as they are, corrupted and
predicted. `final.npz` can be fine-tuned and evaluated like any checkpoint; the
mask token and the prediction head are then dropped.

The loss never looks at the class token. Fine-tuning makes up for that; where
features are used as they are, `--config.model.pool=gap` serves them better.

Hardware: a TPU slice. Expected: 79.9 per cent on ImageNet after fine-tuning,
2 more than from scratch and 4 less than after supervised pre-training.
"""

import ml_collections

from vit_jax import recipes


def get_config(argument: str = 'jft300m') -> ml_collections.ConfigDict:
  """The config for a pre-training set, 'digits' or 'folder:PATH'."""
  return recipes.masked_patches(argument)
