"""Weights from the folders of training runs, finished or still running."""

import json
import logging
from typing import Any

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from vit_jax.checkpoints import checksums

_log = logging.getLogger(__name__)

_CHECKPOINTS = 'checkpoints'


def is_run(folder: epath.Path) -> bool:
  """Whether this is a run's workdir, or the folder of its checkpoints."""
  return (folder / _CHECKPOINTS).is_dir() or bool(_steps(folder))


def read(folder: epath.Path) -> dict[str, Any]:
  """Returns the newest weights: their average where the run keeps one.

  Unlike `store.Store` this writes nothing, so the run may go on meanwhile.
  Damaged checkpoints are passed over, with a warning for each.

  Args:
    folder: a workdir, or its folder of checkpoints.

  Raises:
    ValueError: if there is no finished checkpoint, or all are damaged.
  """
  if (folder / _CHECKPOINTS).is_dir():
    folder /= _CHECKPOINTS
  folder = folder if folder.is_absolute() else folder.absolute()
  damages = []
  for step in _steps(folder):
    damage = checksums.find_damage(folder / str(step))
    if damage is None:
      return _restore(folder / str(step) / 'state')
    damages.append(f'{step}: {damage}')
    _log.warning('checkpoint %s/%s is left out', folder, damages[-1])
  if not damages:
    raise ValueError(
      'the run has no finished checkpoint yet; wait for one, or give the path'
      ' of a weight file.'
    )
  raise ValueError(
    f'every checkpoint is damaged: {"; ".join(damages)}. Give the path of a'
    ' weight file, such as the final.npz of the run.'
  )


def settings(folder: epath.Path) -> dict[str, Any]:
  """Returns what the files of a run tell of its model besides the weights.

  Args:
    folder: the one of a weight file, a workdir, or its folder of checkpoints;
      nothing is found in folders that are no run's.

  Returns:
    'gelu', 'norm_eps' and 'image_size' from config.json, 'class_names' from
    results.json; what is there of them.
  """
  if folder.name == _CHECKPOINTS:
    folder = folder.parent
  config = _read_json(folder / 'config.json')
  found = {}
  for key in ('gelu', 'norm_eps'):
    if f'model.{key}' in config:
      found[key] = config[f'model.{key}']
  if height := config.get('data.image_size'):
    found['image_size'] = height, config.get('data.image_width') or height
  if names := _read_json(folder / 'results.json').get('class_names'):
    found['class_names'] = tuple(names)
  return found


def _steps(folder):
  """The steps of finished checkpoints, newest first."""
  steps = [
    int(path.name)
    for path in folder.iterdir()
    if path.name.isdigit() and (path / checksums.MANIFEST).exists()
  ]
  return sorted(steps, reverse=True)


def _restore(state):
  handler = ocp.PyTreeCheckpointHandler()
  saved = handler.metadata(state).tree
  part = 'ema_params' if saved.get('ema_params') else 'params'
  wanted = {part: saved[part]}
  as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
  restored = handler.restore(
    state,
    args=ocp.args.PyTreeRestore(
      item=wanted,
      restore_args=jax.tree.map(lambda _: as_numpy, wanted),
      partial_restore=True,
    ),
  )
  return restored[part]


def _read_json(path):
  return json.loads(path.read_text()) if path.exists() else {}
