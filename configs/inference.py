"""Inference speed and the largest batch of models, on the device that is here.

  python -m vit_jax.main --config=configs/inference.py
  python -m vit_jax.main --config=configs/inference.py:ViT-B/32,R50x1 \\
      --config.inference.image_sizes=64,224 --config.model.dtype=float32

The argument is a list of models; by default the eight of Figure 12 of the paper
(Appendix D.5), at its five image sizes. Weights are random. A size that a
model's patches do not divide becomes the nearest that they do, such as 518 px
for ViT-H/14 at 512, and the table says so.

Batches are doubled until one does not fit, and the gap is halved until it is an
eighth. Accelerators try; a CPU, which would swap, asks the compiler whether a
batch needs more than `inference.cpu_memory`. Of those that fit, the fastest
counts. One device is used, whatever the number of those that are there.

Each model and size is a file in the workdir's `points/`, and the same command
goes on with what is missing. Printed, and written to `table.txt`: the median,
lowest and highest rate, its batch, and the largest batch. `results.json` has
the rates of all batches, `inference.png` is the paper's figure.

Hardware: any; on 2 CPU cores the default takes hours, a few small models
minutes. Expected: docs/results.md, "Inference"; the paper, on a core of a
TPUv3, shows curves without numbers, in which larger ViTs take larger batches
than ResNets of their speed.
"""

import ml_collections

from vit_jax import config as base_config

MODELS = (
  'R50x1,R50x2,ViT-B/32,ViT-L/32,ViT-B/16,ViT-L/16,ViT-H/14,R152x4'  # Fig. 12.
)


def get_config(models: str = MODELS) -> ml_collections.ConfigDict:
  """The config for models, separated by commas."""
  config = base_config.base(job='inference')
  config.inference.models = models
  config.inference.image_sizes = '64,128,224,384,512'
  config.model.dtype = 'bfloat16'
  return config
