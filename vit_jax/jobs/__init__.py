"""The table of all jobs, keyed by the value of `config.job`."""

from collections.abc import Callable
import dataclasses
from types import ModuleType

from etils import epath, epy
import ml_collections

with epy.lazy_imports():  # Only the job that runs is imported.
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
    module: the module that implements it.
    function: name of the module's function, `(config, workdir) -> None`.
    takes_steps: whether its config needs a length in steps or epochs.
    has_model: whether it runs the model of the config.
    reads_weights: whether it starts from the weights of `init_from`.
    one_process: whether it only runs in a single process.
    uses_workdir: whether it writes files there, the last one a report page.
  """

  module: ModuleType
  function: str = 'run'
  takes_steps: bool = False
  has_model: bool = True
  reads_weights: bool = False
  one_process: bool = False
  uses_workdir: bool = True

  @property
  def run(self) -> Callable[[ml_collections.ConfigDict, epath.Path], None]:
    """Function that runs or resumes the job in a work directory."""
    return getattr(self.module, self.function)


JOBS = {
  'pretrain': Job(supervised, 'pretrain', takes_steps=True),
  'finetune': Job(supervised, 'finetune', reads_weights=True, takes_steps=True),
  'masked_patch': Job(masked_patch, takes_steps=True),
  'sweep': Job(sweep, reads_weights=True, takes_steps=True),
  'study': Job(study),
  'data_study': Job(data_study),
  'vtab': Job(vtab, reads_weights=True, takes_steps=True),
  'evaluate': Job(evaluate, reads_weights=True),
  'few_shot': Job(few_shot, reads_weights=True),
  'features': Job(features, reads_weights=True),
  'predict': Job(predict, reads_weights=True),
  'export': Job(export, reads_weights=True, one_process=True),
  'inspect_model': Job(inspect_model, reads_weights=True, one_process=True),
  'interpolate': Job(interpolate),
  'report': Job(report, has_model=False, uses_workdir=False),
  'dedup': Job(dedup, has_model=False, one_process=True),
  'prepare': Job(prepare, has_model=False, one_process=True),
  'plan': Job(plan, takes_steps=True, one_process=True),
  'inference': Job(inference, one_process=True),
}
