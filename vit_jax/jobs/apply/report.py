"""Rewrites the pages of finished runs."""

from etils import epath
import ml_collections

from vit_jax.checkpoints import location
from vit_jax.page import report
from vit_jax.workdir import finished_run


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Writes the pages of the runs in `report.runs` and of the runs below them.

  Raises:
    ValueError: if one of them is not a finished run.
  """
  del workdir  # Every page is written to the folder of its run.
  folders = [location.expand(folder) for folder in config.report.runs]
  if not folders:
    raise ValueError(
      'report.runs is empty; give the workdirs of finished runs, separated by'
      ' commas.'
    )
  for finished in [finished_run.read(folder) for folder in folders]:
    report.write(finished)
