"""Accuracy against compute of ViTs, ResNets and hybrids (Figure 5, Table 6).

  python -m vit_jax.main --config=configs/scaling.py
  python -m vit_jax.main --config=configs/scaling.py:folder:PATH

Pre-trains the 18 models and lengths of Table 6 on JFT-300M and fine-tunes each
on ImageNet (also scored by its ReaL labels: TFDS's imagenet2012_real, or
--config.evaluate.real_json=REAL), CIFAR-10, CIFAR-100, Pets and Flowers, each
at the learning rate that is best on held-out images. Counts their exaFLOPs (by
the rule that reproduces Table 6, and by the compiler) and core-days, and draws
accuracy against compute, with the frontier. With folder:PATH or digits, nine
small models of the three families train at 32 px with three seeds and are
compared by test accuracy, in about an hour on two cores.

To set other points, or add finished runs:

  --config.study.points='A: model.name=ViT-S/16; B (wide): model.name=ViT-S/16
      model.width=768' --config.sweep.seeds=3
  --config.study.collect=RUN,RUN

Writes `table.txt`, `study.png` and `results.json`. Every run has a folder
POINT/seed-N; the same command runs what is missing, such as added points.

Hardware: TPU slices; Table 6 takes nearly 16,000 exaFLOPs in total. Expected
(Table 6, ImageNet): ViT-B/32 80.73 at 55 exaFLOPs, ViT-L/16 87.12 at 1567,
R152x2 85.56 at 1126, R50+ViT-L/16 87.12 at 1668. The rule reproduces the ViT
rows to within 2.0 %.
"""

import ml_collections

from vit_jax import recipes
from vit_jax.recipes import studies

# Models and their epochs.
TABLE_6 = {
  'ViT-B/32': (7,),
  'ViT-B/16': (7,),
  'ViT-L/32': (7,),
  'ViT-L/16': (7, 14),
  'ViT-H/14': (14,),
  'R50x1': (7,),
  'R50x2': (7,),
  'R101x1': (7,),
  'R152x1': (7,),
  'R152x2': (7, 14),
  'R200x3': (14,),
  'R50+ViT-B/32': (7,),
  'R50+ViT-B/16': (7,),
  'R50+ViT-L/32': (7,),
  'R50+ViT-L/16': (7, 14),
}

SMALL = {
  'ViT 4x64 /8': studies.vit('ViT-Ti/8', depth=4, width=64),
  'ViT 4x96 /8': studies.vit('ViT-Ti/8', depth=4, width=96),
  'ViT 4x96 /4': studies.vit('ViT-Ti/4', depth=4, width=96),
  'R 1,1 x0.5': studies.resnet(1, 1),
  'R 1,1,1 x0.5': studies.resnet(1, 1, 1),
  'R 2,2,2 x0.5': studies.resnet(2, 2, 2),
  'R 1 + ViT 2x64': studies.hybrid(1, depth=2, width=64),
  'R 1,1 + ViT 2x96': studies.hybrid(1, 1, depth=2, width=96),
  'R 1 + ViT 4x96': studies.hybrid(1, depth=4, width=96),
}


def get_config(data: str = 'jft300m') -> ml_collections.ConfigDict:
  """Returns the config for 'jft300m', 'folder:PATH', 'table:FILE' or 'digits'.

  Raises:
    ValueError: if there is no such study.
  """
  if studies.is_small(data):
    return studies.compare(studies.small(data), SMALL)
  if data != studies.JFT:
    raise ValueError(
      f'there is no scaling study of {data!r}; choose {studies.JFT},'
      ' folder:PATH, table:FILE or digits.'
    )
  config = recipes.pretraining('ViT-B/32', data)
  points = {
    f'{model}, {epochs} epochs': studies.changes(
      config, model, f'{data},{epochs}'
    )
    for model, lengths in TABLE_6.items()
    for epochs in lengths
  }
  config = studies.compare(config, points)
  config.study.update(
    finetune=studies.DOWNSTREAM,
    finetune_sweep=True,
    real=True,
    metrics=('finetune/mean/accuracy', 'finetune/imagenet2012/accuracy'),
  )
  return config
