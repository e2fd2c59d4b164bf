"""Accuracy against the size of the pre-training set (section 4.3).

  python -m vit_jax.main --config=configs/data_study.py
  python -m vit_jax.main --config=configs/data_study.py:table5
  python -m vit_jax.main --config=configs/data_study.py:folder:PATH

- figure4 (the default): R50x1, R152x2, ViT-b/32, B/32, L/32 and L/16 on 9, 30,
  90 and all 303 million images of JFT-300M, by ImageNet 5-shot accuracy. All
  take as many steps; the weights with the best accuracy on held-out images
  count (early stopping).
- figure3: ViTs on ImageNet, ImageNet-21k and JFT-300M, by fine-tuning on
  ImageNet; weight decay, dropout and label smoothing are chosen for each by
  held-out accuracy. The paper does not tell the values it tried, 0.03, 0.1 and
  0.3, 0 and 0.1, 0 and 0.1 are ours.
- table5: the same models and sets by all downstream tasks, as Table 5 has them;
  ReaL too with --config.evaluate.real_json=REAL.
- folder:PATH: a small ViT and a small ResNet at 32 px on 250, 1,000, 4,000 and
  16,000 images, three seeds; digits: on 50, 200, 800 and all.

Subsets are drawn at random by seed, the same for all models, each within the
next. Keys are those of a study (configs/scaling.py) and

  --config.data_study.sizes=1000,10000,0
  --config.sweep.grid='optim.weight_decay=0.03|0.3 label_smoothing=0.0|0.1'
  --config.best_metric=val/accuracy  (what is chosen by)

`table.txt` has the models side by side, `study.png` draws them; every run lies
in a folder of its own, and the same command goes on. Hardware: TPU slices.
Expected: on ImageNet alone, ViT-L falls behind ViT-B; from JFT-300M it wins.
Table 5, ImageNet: L/16 76.53, 85.15, 87.12 per cent; B/16 77.91, 83.97, 84.15.
"""

import ml_collections

from vit_jax.recipes import studies


def get_config(argument: str = 'figure4') -> ml_collections.ConfigDict:
  """The config for a study of the paper, 'folder:PATH' or 'digits'."""
  return studies.data(argument)
