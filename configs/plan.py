"""Plans a training run: does it fit a TPU slice, and what does it cost?

  python -m vit_jax.main --config=configs/plan.py:ViT-L/16,v3:2x2
  python -m vit_jax.main --config=configs/plan.py:ViT-H/14,v3:4x4,jft300m \\
      --config.mesh.data=1 --config.mesh.fsdp=-1

The argument is MODEL,SLICE[,DATASET]: plans the pre-training of MODEL on
DATASET (ImageNet-21k by default) as in Table 3. `--config.job=plan` plans any
other config, here the fine-tuning of Table 2:

  python -m vit_jax.main --config=configs/finetune.py:ViT-L/16,imagenet2012 \\
      --config.job=plan --config.plan.job=finetune \\
      --config.data.image_size=512 --config.plan.topologies=v3:2x2,v3:4x4

Several models, slices and batch sizes make one table, here with the largest
batch that fits for each:

  python -m vit_jax.main --config=configs/plan.py:ViT-B/16,v3:2x2 \\
      --config.plan.models=ViT-B/16,ViT-L/16,ViT-H/14 \\
      --config.plan.topologies=v3:2x2,v3:4x4 --config.plan.fit=largest

The TPU compiler, installed by `pip install -e '.[tpu]'`, compiles the step for
the mesh of the config. A step that does not fit is divided into more
micro-batches (`plan.fit`).

Prints, and writes to `plan.txt` and `results.json`: bytes of state, arguments
and temporaries per core, and their peak against its memory; FLOPs per
step; collectives; lower bounds on the time of a step from its FLOPs, its HBM
traffic and its interconnect traffic; time per step and TPU-core-days of the
run, at the utilisation of the paper's runs (Table 2) and at `plan.utilisation`.

Hardware: 1 CPU core and 8 GB; a compilation takes one to three minutes.
Expected: docs/results.md, "Plans".
"""

import ml_collections

from vit_jax import recipes


def get_config(argument: str = 'ViT-L/16,v3:2x2') -> ml_collections.ConfigDict:
  """Returns the config for 'MODEL,SLICE[,DATASET]'.

  Raises:
    ValueError: if the argument has another form.
  """
  model, comma, rest = argument.partition(',')
  topology, _, dataset = rest.partition(',')
  if not comma or not topology:
    raise ValueError(
      f'{argument!r} is not MODEL,SLICE[,DATASET], such as ViT-L/16,v3:2x2.'
    )
  config = recipes.pretraining(model, dataset or 'imagenet21k')
  config.job = 'plan'
  config.model.scan = True
  config.plan.topologies = (topology,)
  return config
