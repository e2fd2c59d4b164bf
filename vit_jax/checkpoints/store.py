"""Checkpoints of a running job: saved in the background, verified, resumed.

Orbax writes and reads the arrays. This adds what a run that may be killed, or
whose disk may fail, needs on top: checksums committed together with the
checkpoint, a way back past damaged checkpoints, and errors in plain words.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import logging
import re
import shutil

from etils import epath
import jax
from jax.experimental import multihost_utils
from jaxtyping import PyTree
import numpy as np
import orbax.checkpoint as ocp

from vit_jax.checkpoints import checksums

_log = logging.getLogger(__name__)


class DamagedCheckpointError(ValueError):
  """Every checkpoint in the folder is damaged."""


class SaveError(OSError):
  """A checkpoint could not be written; the older ones are kept."""


@dataclasses.dataclass(frozen=True)
class Restored:
  """What a checkpoint holds.

  Attributes:
    step: the step it was saved at.
    state: the arrays, in the structure and the sharding of the target.
    meta: the JSON values that were saved beside them.
  """

  step: int
  state: PyTree
  meta: dict


class Store:
  """The last few checkpoints of one run, in `folder/STEP`.

  A context manager; leaving it waits for the save under way. With several
  processes, all of them make the same calls. Only one run may use a folder at
  a time: opening it removes what an interrupted save has left.

  A checkpoint appears under its name, with its checksums, in one atomic
  rename (on gs://, with a marker written last), so that a run killed at any
  moment leaves whole checkpoints.
  """

  def __init__(self, folder: epath.PathLike, *, keep: int = 3):
    """Opens or makes a folder of checkpoints.

    Args:
      folder: local or gs://.
      keep: number of checkpoints to keep, the newest ones.

    Raises:
      ValueError: if keep is not positive.
    """
    if keep < 1:
      raise ValueError(
        f'the number of checkpoints to keep is 1 or more, got {keep}.'
      )
    folder = epath.Path(folder)
    # Orbax wants absolute paths; absolute() would garble gs:// ones.
    self._folder = folder if folder.is_absolute() else folder.absolute()
    self._saving: int | None = None  # The step that is being saved,
    self._saving_bytes = 0  # and its size.
    self._failure: SaveError | None = None  # Not yet told.
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        cleanup_tmp_directories=True,
        async_options=ocp.options.AsyncOptions(
          post_finalization_callback=self._write_manifest
        ),
      ),
    )

  def save(self, step: int, state: PyTree, *, meta: dict | None = None) -> None:
    """Starts to save in the background; the arrays may be donated at once.

    Waits for the save before this one. Saving the newest step once more does
    nothing. A save that fails is told by `wait`; or, if another one follows
    first, in the log, since that one is tried all the same.

    Args:
      step: number of steps taken, above those of all kept checkpoints.
      state: arrays.
      meta: small values that JSON can hold.

    Raises:
      SaveError: if the save before this one failed in one of several processes,
        of which the others know nothing.
      ValueError: if a later step is kept already.
    """
    self._log_failure()
    newest = self._manager.latest_step()
    if newest == step:
      return
    if newest is not None and newest > step:
      raise ValueError(
        f'step {step} cannot be saved: {self._folder} holds step {newest},'
        ' which is later; resume from it, or choose another folder.'
      )
    self._saving = step
    self._saving_bytes = sum(x.nbytes for x in jax.tree.leaves(state))
    try:
      with self._explain_failure():
        self._manager.save(
          step,
          args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            meta=ocp.args.JsonSave(meta or {}),
          ),
          force=True,  # When to save is the caller's choice.
        )
    except SaveError as error:
      self._failure = error

  def check(self) -> None:
    """Logs it if the save under way has failed, without waiting for its end.

    Raises:
      SaveError: as for `save`.
    """
    ended = self._saving and not self._manager.is_saving_in_progress()
    if ended or self._failure:
      self._log_failure()

  def wait(self) -> None:
    """Waits for the save under way.

    Raises:
      SaveError: if it failed.
    """
    if self._failure:
      failure, self._failure = self._failure, None
      raise failure
    if self._saving is not None:
      with self._explain_failure():
        self._manager.wait_until_finished()
      self._saving = None

  def steps(self) -> list[int]:
    """The steps of the finished checkpoints, oldest first."""
    return [
      step
      for step in self._manager.all_steps()
      if (self._step_folder(step) / checksums.MANIFEST).exists()
    ]

  def restore(self, target: PyTree) -> Restored | None:
    """Reads the newest checkpoint that is whole.

    Every file is compared with its checksum first. Damaged checkpoints that
    are newer are renamed to `STEP.damaged`, with a warning for each.

    Args:
      target: `jax.ShapeDtypeStruct`s with shardings, in the structure of the
        saved state; the mesh may differ from the one that saved.

    Returns:
      The checkpoint, or None if the folder has none.

    Raises:
      DamagedCheckpointError: if there are checkpoints but all are damaged;
        nothing is renamed then.
      ValueError: if arrays are missing, left over, or of another shape or
        type than the target's.
    """
    self.wait()
    step = self._newest_whole()
    if step is None:
      return None
    self._check_matches(step, target)
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(target), meta=ocp.args.JsonRestore()
      ),
    )
    return Restored(step, restored['state'], restored['meta'])

  def close(self) -> None:
    """Waits for the save under way and ends the background threads.

    Raises:
      SaveError: if that save failed.
    """
    try:
      self.wait()
    finally:
      self._manager.close()

  def __enter__(self) -> 'Store':
    return self

  def __exit__(self, kind, *unused) -> None:
    if kind is None:
      self.close()
    elif jax.process_count() == 1:  # Others might never come to the same place.
      try:
        self.close()
      except SaveError as error:  # There is an earlier one to tell.
        _log.warning('%s', error)

  def _step_folder(self, step: int) -> epath.Path:
    return self._folder / str(step)

  def _unfinished_folder(self, step: int) -> epath.Path:
    return self._folder / f'{step}{ocp.utils.TMP_DIR_SUFFIX}'

  def _write_manifest(self) -> None:
    # Orbax calls this in its background thread, on the first process, after
    # the last array of all processes is written and before the commit.
    folder = self._unfinished_folder(self._saving)
    if not folder.exists():  # On gs:// files are written in place.
      folder = self._step_folder(self._saving)
    checksums.write_manifest(folder)

  def _log_failure(self) -> None:
    try:
      self.wait()
    except SaveError as error:
      if jax.process_count() > 1:
        raise
      _log.warning('%s The run goes on; its next checkpoint is tried.', error)

  @contextlib.contextmanager
  def _explain_failure(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:
      step, self._saving = self._saving, None
      cause = (str(error) or type(error).__name__).splitlines()[0]
      if system := re.search(r'.*: (.*) \[os_error_code=', cause):
        cause = system[1]  # What stands before is a dozen of paths.
      if jax.process_count() == 1:
        # What was written would take the space that other files need.
        with contextlib.suppress(OSError):
          self._unfinished_folder(step).rmtree(missing_ok=True)
        self._manager.reload()
      raise SaveError(
        f'the checkpoint of step {step} ({_mebibytes(self._saving_bytes)})'
        f' could not be saved in {self._folder}: {cause}.{self._space()} Steps'
        f' kept there: {", ".join(map(str, self.steps())) or "none"}.'
      ) from error

  def _space(self) -> str:
    try:
      free = shutil.disk_usage(self._folder).free
    except OSError:  # gs:// has no end.
      return ''
    return (
      f' {_mebibytes(free)} are free there now; lower keep_checkpoints, or make'
      ' room.'
    )

  def _newest_whole(self) -> int | None:
    """Finds the newest whole step, as process 0 sees it, for all processes."""
    damages, found = {}, -1
    if jax.process_index() == 0:
      for step in reversed(self._manager.all_steps()):
        damage = checksums.find_damage(self._step_folder(step))
        if damage is None:
          found = step
          break
        damages[step] = damage
    told = np.array([found, len(damages)], np.int32)
    found, num_damaged = map(int, multihost_utils.broadcast_one_to_all(told))
    if not num_damaged:
      return None if found < 0 else found
    if found < 0:
      details = '; '.join(f'{step}: {damages[step]}' for step in damages)
      raise DamagedCheckpointError(
        f'every checkpoint in {self._folder} is damaged:'
        f' {details or "process 0 says how"}. Choose another workdir, or remove'
        ' this folder to start afresh.'
      )
    self._set_aside(damages)
    return found

  def _set_aside(self, damages: dict[int, str]) -> None:
    # Under its own name, a damaged step would stand in the way of saving it
    # and lower ones. Only process 0 has something to rename.
    for step, damage in damages.items():
      folder = self._step_folder(step)
      aside = _unused(folder.with_name(f'{step}.damaged'))
      folder.rename(aside)
      _log.warning(
        'Checkpoint %s is damaged and left out: %s. It is now %s.',
        folder,
        damage,
        aside.name,
      )
    ocp.multihost.sync_global_processes('damaged checkpoints renamed')
    self._manager.reload()

  def _check_matches(self, step: int, target: PyTree) -> None:
    folder = self._step_folder(step)
    saved = ocp.StandardCheckpointHandler().metadata(folder / 'state').tree
    saved = ocp.tree.to_flat_dict(saved, sep='/')
    wanted = ocp.tree.to_flat_dict(target, sep='/')
    differences = []
    for name in [*wanted, *(name for name in saved if name not in wanted)]:
      if name not in saved:
        differences.append(f'{name} is not in the checkpoint')
      elif name not in wanted:
        differences.append(f'{name} is only in the checkpoint')
      else:
        there, here = _describe(saved[name]), _describe(wanted[name])
        if there != here:
          differences.append(
            f'{name} is {there} in the checkpoint, {here} in this run'
          )
    if differences:
      more = len(differences) - 5
      raise ValueError(
        f'checkpoint {folder} is of another model or optimiser: '
        + '; '.join(differences[:5])
        + (f'; and {more} more' if more > 0 else '')
        + '. Resume with the config it was saved with, or choose another'
        ' workdir.'
      )


def _unused(path: epath.Path) -> epath.Path:
  number, candidate = 1, path
  while candidate.exists():
    number += 1
    candidate = path.with_name(f'{path.name}-{number}')
  return candidate


def _mebibytes(size: int) -> str:
  return f'{size / 2**20:.1f} MiB'


def _describe(array) -> str:
  return f'{array.dtype}{list(array.shape)}'
