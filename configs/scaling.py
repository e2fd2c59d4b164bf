"""Accuracy against compute of ViTs, ResNets and hybrids (Figure 5, Table 6).

  python -m vit_jax.main --config=configs/scaling.py
  python -m vit_jax.main --config=configs/scaling.py:folder:PATH

Pre-trains the 18 models and lengths of Table 6 on JFT-300M, fine-tunes each on
ImageNet, CIFAR-10, CIFAR-100, Pets and Flowers, counts its exaFLOPs (by the
rule that gives Table 6's, and by the compiler) and core-days, and draws
accuracy against compute with the frontier. With folder:PATH, or digits, it
compares nine small models of the three families at 32 px, three seeds each, by
their own test accuracy: for an hour of two cores.

Points are lists of keys; any other is

  --config.study.points='A: model.name=ViT-S/16; B (wide): model.name=ViT-S/16
      model.width=768' --config.sweep.seeds=3

and runs that are there already join by `--config.study.collect=RUN,RUN`.
`table.txt`, `study.png` and `results.json` hold what came out; every run lies
in POINT/seed-N, and the same command goes on with what is not finished, or was
added.

Hardware: TPU slices; the rows of Table 6 together take nearly 16,000 exaFLOPs.
Expected (Table 6, ImageNet): ViT-B/32 80.73 at 55 exaFLOPs, ViT-L/16 87.12 at
1567, R152x2 85.56 at 1126, R50+ViT-L/16 87.12 at 1668; the rule gives the rows
of ViTs within 2.5 %.
"""

import ml_collections

from vit_jax.recipes import studies


def get_config(argument: str = 'jft300m') -> ml_collections.ConfigDict:
  """The config for 'jft300m', 'folder:PATH' or 'digits'."""
  return studies.scaling(argument)
