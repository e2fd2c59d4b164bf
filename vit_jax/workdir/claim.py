"""Claims a work directory for a run; checks whether the run has finished."""

from collections.abc import Mapping
import logging
import time
from typing import Any

from etils import epath

from vit_jax import config as config_lib
from vit_jax.checkpoints import backlog
from vit_jax.distributed import processes
from vit_jax.workdir import environment, files

_log = logging.getLogger(__name__)

# Network drives may report a new file as missing for a while.
_SECONDS_TO_APPEAR = 60


def is_finished(
  keys: Mapping[str, Any], workdir: epath.Path, *, training: bool = False
) -> bool:
  """Returns whether this run has finished in `workdir`, and logs it if so.

  Args:
    keys: all config keys of the run, by their dotted names.
    workdir: folder of the run; need not exist.
    training: whether the run trains, so that it may resume with other
      evaluations.

  Raises:
    ValueError: if the folder holds a run with another config.
  """
  earlier = files.read_json(workdir / files.CONFIG)
  if earlier is not None:
    earlier = config_lib.from_json(earlier, workdir / files.CONFIG)
  results = files.read_json(workdir / files.RESULTS)
  changed = earlier is not None and config_lib.changed_keys(
    keys, earlier, in_training=training and results is None
  )
  if changed:
    advice = 'choose another --workdir, or restore the config of that run.'
    if training and results is not None:
      advice += ' It has finished; configs/evaluate.py evaluates its weights.'
    raise ValueError(
      f'{workdir} holds a run with another config ({"; ".join(changed)});'
      f' {advice}'
    )
  if results is None:
    return False
  _log.info(
    'the run in %s is finished%s; results in %s',
    workdir,
    f', at step {results["step"]}' if 'step' in results else '',
    workdir / files.RESULTS,
  )
  return True


def start(keys: Mapping[str, Any], workdir: epath.Path) -> None:
  """Creates the folder and records the config and the environment in it."""
  if processes.is_first():
    workdir.mkdir(parents=True, exist_ok=True)
  files.update_json(workdir / files.CONFIG, dict(keys))
  backlog.flush()  # Without a config, the folder is not claimed.
  files.update_json(workdir / files.ENVIRONMENT, environment.describe())


def restart(keys: Mapping[str, Any], workdir: epath.Path) -> None:
  """Same as `start`, for a job that repeats all of its work on each call.

  Its config may differ from that of the earlier run.

  Raises:
    ValueError: if the folder holds a run of another job.
  """
  earlier = files.read_json(workdir / files.CONFIG)
  if earlier is not None and earlier.get('job') != keys['job']:
    raise ValueError(
      f'{workdir} holds a run of the job {earlier.get("job")!r}, not of'
      f' {keys["job"]!r}; choose another --workdir.'
    )
  start(keys, workdir)


def check_shared(workdir: epath.Path) -> None:
  """Checks that all processes share the work directory.

  Raises:
    ValueError: in a process that does not see what process 0 has written.
  """
  # All processes have to pass the same name, whatever their folder is.
  processes.wait_for_all('the workdir is claimed')
  deadline = time.monotonic() + _SECONDS_TO_APPEAR
  while not (workdir / files.CONFIG).exists():
    if time.monotonic() > deadline:
      raise ValueError(
        f'{workdir} in this process is not the folder that process 0 writes'
        ' to, and every process keeps its part of the checkpoints there; give'
        ' all processes one shared --workdir, on gs:// or a network drive.'
      )
    time.sleep(1)
