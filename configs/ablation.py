"""The ablations of Appendix D, each as a study.

  python -m vit_jax.main --config=configs/ablation.py:positions
  python -m vit_jax.main --config=configs/ablation.py:shape,imagenet21k
  python -m vit_jax.main --config=configs/ablation.py:pooling,folder:PATH

The argument is STUDY or STUDY,DATA: DATA is a pre-training set of Table 3,
JFT-300M for 7 epochs unless given; with folder:PATH or digits, small models
train some hundred steps at 32 px with three seeds. (Table 3 has ResNets, which
optimizer and axial compare, for JFT-300M alone.) STUDY is

- positions (D.4, Table 8): no position embeddings, 1-D, 2-D and relative ones;
  the middle two at the stem, at every layer, or shared by all layers;
- pooling (D.3, Figure 9): class token at learning rate 8e-4, average pooling at
  8e-4 and 3e-4, along the run;
- shape (D.2, Figure 8): from 8 layers of width 1024, MLPs of 2048 and patches
  of 32 px: depth 2, 4, 16, 32, 64; width 256, 512, 1536, 2048; MLPs of 512,
  1024, 4096, 8192, 16384; patches of 56, 28, 16, 14; all at once, (4, 512,
  1024, 56), (12, 1536, 3072, 28) and (16, 2048, 4096, 16); against relative
  compute. The paper does not tell its values, these are ours;
- optimizer (D.1, Table 7): Adam or SGD to pre-train R50x1 and R152x2;
- axial (D.6, Figure 13): ViT-B/32 and B/16, R50x1, and the same with axial
  attention, against compute.

Measured by ImageNet 5-shot accuracy, for optimizer by fine-tuning; on small
data by test accuracy. Files are those of configs/scaling.py. Hardware: TPU
slices. Expected (Table 8): 61.4 per cent without position embeddings, 64.0 to
64.3 with any; (Table 7) R50x1 89.33 with Adam and 88.79 with SGD on average.
"""

import ml_collections

from vit_jax.recipes import ablations


def get_config(argument: str = 'positions') -> ml_collections.ConfigDict:
  """The config for 'STUDY' or 'STUDY,DATA'."""
  return ablations.ablation(argument)
