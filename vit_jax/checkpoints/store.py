"""Checkpoints of a running job: background saves, verification, restore.

Orbax writes and reads the arrays. This module adds what is needed to survive
kills and disk failures: checksums committed together with the checkpoint,
fallback from damaged checkpoints to older ones, and readable errors.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import logging

from etils import epath
import jax
from jax.experimental import multihost_utils
from jaxtyping import PyTree
import numpy as np
import orbax.checkpoint as ocp

from vit_jax import foreign_errors
from vit_jax.checkpoints import backlog, checksums

_log = logging.getLogger(__name__)


class DamagedCheckpointError(ValueError):
  """Every checkpoint in the folder is damaged."""


class SaveError(OSError):
  """A checkpoint could not be written; older ones are kept."""


@dataclasses.dataclass(frozen=True)
class Restored:
  """The content of a checkpoint.

  Attributes:
    step: training step of the checkpoint.
    state: arrays, with the structure and sharding of the target.
    meta: JSON values saved with the arrays.
  """

  step: int
  state: PyTree
  meta: dict


class Store:
  """The most recent checkpoints of one run, in `folder/STEP`.

  A context manager; exiting it waits for the save in progress. With several
  processes, all of them must make the same calls. Only one run may use a folder
  at a time, since opening it removes the remains of interrupted saves.

  A checkpoint and its checksums are committed in one atomic rename (on gs://,
  by a marker written last), so a run killed at any moment leaves only complete
  checkpoints.
  """

  def __init__(self, folder: epath.PathLike, *, keep: int = 3):
    """Opens or creates a folder of checkpoints.

    Args:
      folder: local or gs://.
      keep: number of most recent checkpoints to keep.

    Raises:
      ValueError: if keep is not positive.
    """
    if keep < 1:
      raise ValueError(
        f'the number of checkpoints to keep must be 1 or more, got {keep}.'
      )
    folder = epath.Path(folder)
    # Orbax needs absolute paths, and absolute() would garble gs:// ones.
    self._folder = folder if folder.is_absolute() else folder.absolute()
    self._saving: int | None = None  # The step of the save in progress,
    self._saving_bytes = 0  # and its size.
    self._failure: SaveError | None = None  # Not reported yet.
    self._outage = backlog.Outage()
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
    """Starts a save in the background; the arrays may be donated right away.

    Waits for the previous save. Saving the newest step again has no effect. If
    the save fails, `wait` raises the error; if `save` is called first, it logs
    the error and saves the next checkpoint anyway. Files of the run that
    could not be written are written first, and if this fails, the save does
    too: a resumed run would not write them again.

    Args:
      step: number of steps taken; larger than that of any kept checkpoint.
      state: arrays.
      meta: small JSON values.

    Raises:
      SaveError: if the previous save failed and there are several processes,
        since the others do not know of the failure.
      ValueError: if a later step exists.
    """
    self._log_failure()
    newest = self._manager.latest_step()
    if newest == step:
      return
    if newest is not None and newest > step:
      raise ValueError(
        f'cannot save step {step}: {self._folder} holds step {newest}, which'
        ' is later; resume from it, or choose another folder.'
      )
    self._saving = step
    self._saving_bytes = sum(x.nbytes for x in jax.tree.leaves(state))
    try:
      with self._explain_failure():
        backlog.flush()
        self._manager.save(
          step,
          args=ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            meta=ocp.args.JsonSave(meta or {}),
          ),
          force=True,  # The caller decides when to save.
        )
    except SaveError as error:
      self._failure = error

  def check(self) -> None:
    """Logs the error if the last save has failed, without waiting for it.

    Raises:
      SaveError: same as in `save`.
    """
    ended = self._saving and not self._manager.is_saving_in_progress()
    if ended or self._failure:
      self._log_failure()

  def wait(self) -> None:
    """Waits for the save in progress.

    Raises:
      SaveError: if it failed.
    """
    if self._failure:
      failure, self._failure = self._failure, None
      raise failure
    if self._saving is not None:
      with self._explain_failure():
        self._manager.wait_until_finished()
      step, self._saving = self._saving, None
      self._outage.succeeded(f'saved a checkpoint again, at step {step}')

  def steps(self) -> list[int]:
    """Returns the steps of the finished checkpoints, oldest first."""
    return [
      step
      for step in self._manager.all_steps()
      if (self._step_folder(step) / checksums.MANIFEST).exists()
    ]

  def restore(self, target: PyTree) -> Restored | None:
    """Restores the newest intact checkpoint.

    Verifies the checksum of every file first. Newer checkpoints that are
    damaged are renamed to `STEP.damaged`, with a warning.

    Args:
      target: `jax.ShapeDtypeStruct`s with shardings, in the structure of the
        saved state; the mesh may differ from that of the save.

    Returns:
      The checkpoint, or None if there is none.

    Raises:
      DamagedCheckpointError: if there are checkpoints but all are damaged; none
        is renamed in this case.
      ValueError: if the checkpoint and the target differ in the names, shapes
        or types of arrays.
    """
    self.wait()
    step = self._newest_intact()
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
    """Waits for the save in progress and stops the background threads.

    Raises:
      SaveError: if the save failed.
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
    elif jax.process_count() == 1:  # Other processes may never reach this.
      try:
        self.close()
      except SaveError as error:  # An earlier error is being raised.
        _log.warning('%s', error)

  def _step_folder(self, step: int) -> epath.Path:
    return self._folder / str(step)

  def _unfinished_folder(self, step: int) -> epath.Path:
    return self._folder / f'{step}{ocp.utils.TMP_DIR_SUFFIX}'

  def _write_manifest(self) -> None:
    # Orbax calls this in its background thread, on the first process, after
    # all processes have written their arrays and before the commit.
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
      self._outage.failed(f'{error} The run continues without this checkpoint.')

  @contextlib.contextmanager
  def _explain_failure(self) -> Iterator[None]:
    try:
      yield
    except Exception as error:
      step, self._saving = self._saving, None
      cause = foreign_errors.message(error).rstrip('.')
      if jax.process_count() == 1:
        # The remains would take up space that other files need.
        with contextlib.suppress(OSError):
          self._unfinished_folder(step).rmtree(missing_ok=True)
        self._manager.reload()
      raise SaveError(
        f'the checkpoint of step {step} ({_mebibytes(self._saving_bytes)})'
        f' could not be saved in {self._folder}: {cause}.{self._space()}'
        f' Existing steps: {", ".join(map(str, self.steps())) or "none"}.'
      ) from error

  def _space(self) -> str:
    free = backlog.free_space(self._folder)
    if free is None:
      return ''
    return (
      f' {_mebibytes(free)} are free there; lower keep_checkpoints, or free up'
      ' space.'
    )

  def _newest_intact(self) -> int | None:
    """Returns the newest intact step, which process 0 determines for all."""
    damages, newest = {}, -1
    if jax.process_index() == 0:
      for step in reversed(self._manager.all_steps()):
        damage = checksums.find_damage(self._step_folder(step))
        if damage is None:
          newest = step
          break
        damages[step] = damage
    result = np.array([newest, len(damages)], np.int32)
    newest, num_damaged = map(int, multihost_utils.broadcast_one_to_all(result))
    if not num_damaged:
      return None if newest < 0 else newest
    if newest < 0:
      details = '; '.join(f'{step}: {x}' for step, x in damages.items())
      raise DamagedCheckpointError(
        f'every checkpoint in {self._folder} is damaged:'
        f' {details or "see the log of process 0"}. Choose another workdir, or'
        ' remove this folder to start from scratch.'
      )
    self._rename_damaged(damages)
    return newest

  def _rename_damaged(self, damages: dict[int, str]) -> None:
    # Under its own name, a damaged step would prevent saving the same or a
    # lower step. Only process 0 knows which steps are damaged.
    for step, damage in damages.items():
      folder = self._step_folder(step)
      renamed = _unused(folder.with_name(f'{step}.damaged'))
      folder.rename(renamed)
      _log.warning(
        'checkpoint %s is damaged (%s); skipped it and renamed it to %s',
        folder,
        damage,
        renamed.name,
      )
    ocp.multihost.sync_global_processes('damaged checkpoints renamed')
    self._manager.reload()

  def _check_matches(self, step: int, target: PyTree) -> None:
    folder = self._step_folder(step)
    saved = ocp.StandardCheckpointHandler().metadata(folder / 'state').tree
    saved, expected = (
      {
        name: f'{x.dtype}{list(x.shape)}'
        for name, x in ocp.tree.to_flat_dict(tree, sep='/').items()
      }
      for tree in (saved, target)
    )
    differences = []
    for name in expected | saved:
      if name not in saved:
        differences.append(f'{name} is not in the checkpoint')
      elif name not in expected:
        differences.append(f'{name} is only in the checkpoint')
      elif saved[name] != expected[name]:
        differences.append(
          f'{name} is {saved[name]} in the checkpoint, {expected[name]} in this'
          ' run'
        )
    if differences:
      if (more := len(differences) - 5) > 0:
        differences[5:] = [f'and {more} more']
      raise ValueError(
        f'checkpoint {folder} is of a different model or optimizer:'
        f' {"; ".join(differences)}. Resume with the config it was saved with,'
        ' or choose another workdir.'
      )


def _unused(path: epath.Path) -> epath.Path:
  number, candidate = 1, path
  while candidate.exists():
    number += 1
    candidate = path.with_name(f'{path.name}-{number}')
  return candidate


def _mebibytes(size: int) -> str:
  return f'{size / 2**20:.1f} MiB'
