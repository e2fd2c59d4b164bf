"""The table of all jobs, keyed by the value of `config.job`."""

from collections.abc import Callable
import dataclasses

from etils import epath
import ml_collections

from vit_jax.jobs.apply import (
  evaluate,
  export,
  features,
  few_shot,
  inspect_model,
  interpolate,
  predict,
  report,
)
from vit_jax.jobs.compare import data_study, study, sweep, vtab
from vit_jax.jobs.data import dedup, prepare
from vit_jax.jobs.measure import inference, plan
from vit_jax.jobs.train import masked_patch, supervised


@dataclasses.dataclass(frozen=True)
class Job:
  """A row of the table: facts about a job for the command line.

  Attributes:
    run: runs or resumes the job in a work directory.
    takes_steps: whether its config needs a length in steps or epochs.
    has_model: whether it runs the model of the config.
    reads_weights: whether it starts from the weights of `init_from`.
    one_process: whether it only runs in a single process.
    uses_workdir: whether it writes files there, the last one a report page.
  """

  run: Callable[[ml_collections.ConfigDict, epath.Path], None]
  takes_steps: bool = False
  has_model: bool = True
  reads_weights: bool = False
  one_process: bool = False
  uses_workdir: bool = True


JOBS = {
  'pretrain': Job(supervised.pretrain, takes_steps=True),
  'finetune': Job(supervised.finetune, reads_weights=True, takes_steps=True),
  'masked_patch': Job(masked_patch.run, takes_steps=True),
  'sweep': Job(sweep.run, reads_weights=True, takes_steps=True),
  'study': Job(study.run),
  'data_study': Job(data_study.run),
  'vtab': Job(vtab.run, reads_weights=True, takes_steps=True),
  'evaluate': Job(evaluate.run, reads_weights=True),
  'few_shot': Job(few_shot.run, reads_weights=True),
  'features': Job(features.run, reads_weights=True),
  'predict': Job(predict.run, reads_weights=True),
  'export': Job(export.run, reads_weights=True, one_process=True),
  'inspect_model': Job(inspect_model.run, reads_weights=True, one_process=True),
  'interpolate': Job(interpolate.run),
  'report': Job(report.run, has_model=False, uses_workdir=False),
  'dedup': Job(dedup.run, has_model=False, one_process=True),
  'prepare': Job(prepare.run, has_model=False, one_process=True),
  'plan': Job(plan.run, takes_steps=True, one_process=True),
  'inference': Job(inference.run, one_process=True),
}
