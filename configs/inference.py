"""Inference speed and the largest batch of models, on the device at hand.

  python -m vit_jax.main --config=configs/inference.py
  python -m vit_jax.main --config=configs/inference.py:ViT-B/32,R50x1 \\
      --config.inference.image_sizes=64,224 --config.model.dtype=float32

The argument is a list of models, by default the eight of Figure 12 of the paper
(Appendix D.5), at its five image sizes. Weights are random. A size that is not
a multiple of a model's patch size is rounded to the nearest one, such as 518 px
for ViT-H/14 at 512; the table notes it.

Batch sizes are doubled until one does not fit; a binary search then finds the
largest to within an eighth. On an accelerator, a batch is tried; on a CPU,
which would swap, the compiler reports whether it takes more than
`inference.cpu_memory`. The fastest batch size is reported. Only one device is
used.

The numbers of each model and size are kept in `points/`, so the same command
resumes. Prints, and writes to `table.txt`, the median, lowest and highest rate
at the fastest batch size, that size, and the largest one. `results.json` has
the rates of all batch sizes; `inference.png` is the figure of the paper.

Hardware: any; on 2 CPU cores the default takes hours, a few small models take
minutes. Expected: docs/results.md, "Inference". For a TPUv3 core, the paper
shows curves without numbers: larger ViTs fit larger batches than ResNets of the
same speed.
"""

import ml_collections

from vit_jax import config as config_lib

FIGURE_12 = 'R50x1,R50x2,ViT-B/32,ViT-L/32,ViT-B/16,ViT-L/16,ViT-H/14,R152x4'


def get_config(models: str = FIGURE_12) -> ml_collections.ConfigDict:
  """Returns the config for models separated by commas."""
  config = config_lib.base(job='inference')
  config_lib.set_keys(config, {'inference.models': models})
  config.inference.image_sizes = (64, 128, 224, 384, 512)
  config.model.dtype = 'bfloat16'
  return config
