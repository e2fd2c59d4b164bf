"""Plans a training run: does it fit a TPU slice, and what does it cost?

  python -m vit_jax.main --config=configs/plan.py:ViT-L/16,v3:2x2
  python -m vit_jax.main --config=configs/plan.py:ViT-H/14,v3:4x4,jft300m \\
      --config.mesh.data=1 --config.mesh.fsdp=-1

The argument is MODEL,SLICE[,DATASET], with the recipe of Table 3 for
pre-training MODEL on DATASET (ImageNet-21k unless given). Any other config is
planned with `--config.job=plan`, here the fine-tuning of Table 2:

  python -m vit_jax.main --config=configs/finetune.py:ViT-L/16,imagenet2012 \\
      --config.job=plan --config.plan.job=finetune \\
      --config.data.image_size=512 --config.plan.topologies=v3:2x2,v3:4x4

and several models, slices and batch sizes in one table, with the largest batch
of each that fits:

  python -m vit_jax.main --config=configs/plan.py:ViT-B/16,v3:2x2 \\
      --config.plan.models=ViT-B/16,ViT-L/16,ViT-H/14 \\
      --config.plan.topologies=v3:2x2,v3:4x4 --config.plan.fit=largest

The TPU's own compiler compiles the step that would run there, with the mesh of
the config; it comes with `pip install -e '.[tpu]'`. Where a step does not fit,
it is divided into more micro-batches (`plan.fit`).

Printed, and written to `plan.txt` and `results.json`: bytes of state, arguments
and temporaries on a core, their peak against the core's memory; operations of a
step; collectives; time of a step and TPU-core-days of the run at the share of
the peak that the paper's runs reached (Table 2), and at one given
(`plan.utilisation`).

Hardware: 1 CPU core and 8 GB; one to three minutes for a compilation. Expected:
docs/results.md, "Plans".
"""

import ml_collections

from vit_jax import recipes


def get_config(
  argument: str = 'ViT-L/16,v3:2x2',
) -> ml_collections.ConfigDict:
  """The config for 'MODEL,SLICE[,DATASET]'.

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
  config.plan.topologies = topology
  return config
