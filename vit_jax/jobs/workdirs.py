"""The folder of a run: whose it is, and whether it is finished."""

import json
import logging

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax import report
from vit_jax.report_page import environment

_log = logging.getLogger(__name__)


CONFIG = 'config.json'


def is_finished(config: ml_collections.ConfigDict, workdir: epath.Path) -> bool:
  """Whether this run has ended in `workdir`, which is then logged.

  Raises:
    ValueError: if the folder holds a run of another config.
  """
  path = workdir / CONFIG
  if path.exists():
    changed = config_lib.changed_keys(config, json.loads(path.read_text()))
    if changed:
      raise ValueError(
        f'{workdir} holds a run with another config ({"; ".join(changed)});'
        ' choose another --workdir, or go back to the config it has.'
      )
  results = workdir / report.RESULTS
  if not results.exists():
    return False
  _log.info(
    'the run in %s is finished%s; %s has its results',
    workdir,
    f', at step {step}' if (step := _step(results)) is not None else '',
    results,
  )
  return True


def _step(results: epath.Path) -> int | None:
  """The last step of a finished run; None for jobs that take none."""
  return json.loads(results.read_text()).get('step')


def reuse(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Like `claim`, for a job that does its work anew each time.

  Raises:
    ValueError: if the folder holds a run of another job.
  """
  path = workdir / CONFIG
  if path.exists():
    job = json.loads(path.read_text()).get('job')
    if job != config.job:
      raise ValueError(
        f'{workdir} holds a run of the job {job!r}, not of {config.job!r};'
        ' choose another --workdir.'
      )
  claim(config, workdir)


def claim(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Makes the folder, and notes in it what starts there, with which config."""
  workdir.mkdir(parents=True, exist_ok=True)
  report.write_json(workdir / CONFIG, config_lib.flatten(config))
  report.write_json(workdir / environment.FILE, environment.describe())
