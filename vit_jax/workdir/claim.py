"""The folder of a run: whose it is, and whether it is finished."""

import logging
import time

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.distributed import processes
from vit_jax.workdir import environment, files

_log = logging.getLogger(__name__)


# For network drives, which remember for a while that a file was not there.
_SECONDS_TO_APPEAR = 60


def is_finished(config: ml_collections.ConfigDict, workdir: epath.Path) -> bool:
  """Whether this run has ended in `workdir`, which is then logged.

  Raises:
    ValueError: if the folder holds a run of another config.
  """
  earlier = files.read_json(workdir / files.CONFIG)
  if earlier is not None:
    changed = config_lib.changed_keys(config_lib.flatten(config), earlier)
    if changed:
      raise ValueError(
        f'{workdir} holds a run with another config ({"; ".join(changed)});'
        ' choose another --workdir, or go back to the config it has.'
      )
  results = files.read_json(workdir / files.RESULTS)
  if results is None:
    return False
  _log.info(
    'the run in %s is finished%s; %s has its results',
    workdir,
    f', at step {results["step"]}' if 'step' in results else '',
    workdir / files.RESULTS,
  )
  return True


def reuse(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Like `claim`, for a job that does its work anew each time.

  Raises:
    ValueError: if the folder holds a run of another job.
  """
  earlier = files.read_json(workdir / files.CONFIG)
  if earlier is not None and earlier.get('job') != config.job:
    raise ValueError(
      f'{workdir} holds a run of the job {earlier.get("job")!r}, not of'
      f' {config.job!r}; choose another --workdir.'
    )
  claim(config, workdir)


def claim(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Makes the folder, and notes in it what starts there, with which config."""
  if processes.is_first():
    workdir.mkdir(parents=True, exist_ok=True)
  files.write_json(workdir / files.CONFIG, config_lib.flatten(config))
  files.write_json(workdir / files.ENVIRONMENT, environment.describe())


def check_shared(workdir: epath.Path) -> None:
  """Refuses a folder that is not the same one for all processes.

  Raises:
    ValueError: in a process that does not see what process 0 has written.
  """
  # A name that is the same for all, whatever folder each has.
  processes.wait_for_all('the workdir is claimed')
  deadline = time.monotonic() + _SECONDS_TO_APPEAR
  while not (workdir / files.CONFIG).exists():
    if time.monotonic() > deadline:
      raise ValueError(
        f'{workdir} is another folder here than in process 0, which keeps its'
        ' part of the checkpoints there; give all processes one --workdir that'
        ' they share, on gs:// or a network drive.'
      )
    time.sleep(1)
