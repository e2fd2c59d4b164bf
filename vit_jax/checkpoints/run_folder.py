"""Weights and settings from the folder of a training run."""

import json
import logging
from typing import Any

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from vit_jax.checkpoints import checksums, finite
from vit_jax.checkpoints.description import Evaluation

_log = logging.getLogger(__name__)

CHECKPOINTS = 'checkpoints'
CONFIG = 'config.json'
DATA = 'data.json'
RESULTS = 'results.json'
FINAL_WEIGHTS = 'final.npz'


def is_run(folder: epath.Path) -> bool:
  """Returns whether this is a run's workdir or its folder of checkpoints."""
  return (folder / CHECKPOINTS).is_dir() or bool(_steps(folder))


def has_checkpoint(workdir: epath.Path) -> bool:
  """Returns whether a run has a finished checkpoint to resume from."""
  folder = workdir / CHECKPOINTS
  return folder.is_dir() and bool(_steps(folder))


def read(folder: epath.Path) -> dict[str, Any]:
  """Returns the latest weights, or their moving average if the run keeps one.

  The folder is a workdir or its folder of checkpoints. Unlike `store.Store`,
  this writes nothing, so the run may be in progress. Damaged checkpoints are
  skipped with a warning.

  Raises:
    ValueError: if there is no finished checkpoint, all are damaged, or a weight
      is NaN or infinite.
  """
  if (folder / CHECKPOINTS).is_dir():
    folder /= CHECKPOINTS
  folder = folder if folder.is_absolute() else folder.absolute()
  damages = []
  for step in _steps(folder):
    damage = checksums.find_damage(folder / str(step))
    if damage is None:
      params = _restore(folder / str(step) / 'state')
      finite.check(params, f'checkpoint {step}', '; use another checkpoint.')
      return params
    damages.append(f'{step}: {damage}')
    _log.warning('skipping damaged checkpoint %s/%s', folder, damages[-1])
  if not damages:
    raise ValueError(
      'the run has no finished checkpoint yet; wait for one, or give the path'
      ' of a weight file.'
    )
  raise ValueError(
    f'every checkpoint is damaged: {"; ".join(damages)}. Give the path of a'
    ' weight file, such as the final.npz of the run.'
  )


def settings(folder: epath.Path) -> dict[str, dict[str, Any]]:
  """Returns the settings of a model, as recorded by its run.

  Args:
    folder: a workdir, its folder of checkpoints, or the folder of a weight
      file, which need not belong to a run.

  Returns:
    Fields of `Description`, by the file that records them: 'gelu', 'norm_eps',
    'loss', 'image_size' and 'evaluation' from config.json, and 'class_names'
    from results.json, or from data.json while the run is in progress, each if
    recorded.
  """
  if folder.name == CHECKPOINTS:
    folder = folder.parent
  config = read_json(folder / CONFIG) or {}
  recorded = {}
  # GELU and epsilon are unset for ResNets.
  for key in ('model.gelu', 'model.norm_eps', 'loss'):
    if value := config.get(key):
      recorded[key.removeprefix('model.')] = value
  if height := config.get('data.image_size'):
    recorded['image_size'] = height, config.get('data.image_width') or height
  if crop := config.get('data.eval_crop'):
    precrop_px = config.get('data.precrop_size')
    recorded['evaluation'] = Evaluation(
      crop,
      config.get('data.eval_interpolation') or 'bilinear',
      precrop_size=(precrop_px, precrop_px) if precrop_px else None,
      trim_px=config.get('data.trim_px', 0),
    )
  file = RESULTS if (folder / RESULTS).exists() else DATA
  names = (read_json(folder / file) or {}).get('class_names')
  return {
    CONFIG: recorded,
    file: {'class_names': names and tuple(names)},
  }


def _steps(folder):
  """Returns the steps of finished checkpoints, newest first."""
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
  item = {part: saved[part]}
  as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
  restored = handler.restore(
    state,
    args=ocp.args.PyTreeRestore(
      item=item,
      restore_args=jax.tree.map(lambda _: as_numpy, item),
      partial_restore=True,
    ),
  )
  return restored[part]


def read_json(path: epath.Path) -> Any:
  """Returns the content of a JSON file, or None if there is no file."""
  return json.loads(path.read_text()) if path.exists() else None
