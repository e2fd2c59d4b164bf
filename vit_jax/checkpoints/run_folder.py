"""Weights and settings from the folder of a training run."""

import json
import logging
import numbers
import re
from typing import Any

from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from vit_jax import foreign_errors
from vit_jax.checkpoints import checksums, finite, regular_file, structure
from vit_jax.checkpoints.description import Evaluation

_log = logging.getLogger(__name__)

CHECKPOINTS = 'checkpoints'
CONFIG = 'config.json'
DATA = 'data.json'
RESULTS = 'results.json'
FINAL_WEIGHTS = 'final.npz'

# Types of fields, by file; each field may be missing.
_FIELDS = {
  CONFIG: {
    'job': str,
    'loss': str,
    'model.gelu': str,
    'model.norm_eps': numbers.Real,
    'data.image_size': int,
    'data.image_width': int,
    'data.precrop_size': int,
    'data.trim_px': int,
    'data.bits': int,
    'data.eval_crop': str,
    'data.eval_interpolation': str,
  },
  DATA: {
    'class_names': list,
    'multi_label': bool,
    'train': dict,
    'evals': dict,
  },
  RESULTS: {
    'job': str,
    'step': int,
    'seconds': numbers.Real,
    'core_days': numbers.Real,
    'parameters': int,
    'metrics': dict,
    'class_names': list,
    'multi_label': bool,
    'class_accuracy': dict,
    'class_average_precision': dict,
    'asked': dict,
    'missing': list,
  },
}


def final_weights(path: epath.Path) -> epath.Path:
  """Returns the path of the final weights, given a finished run's workdir.

  The run needs no checkpoints; they may have been deleted. Other paths are
  returned unchanged.
  """
  final = path / FINAL_WEIGHTS
  return final if path.is_dir() and final.exists() else path


def is_run(folder: epath.Path) -> bool:
  """Returns whether this is a run's workdir or its folder of checkpoints."""
  return (folder / CHECKPOINTS).is_dir() or bool(_steps(folder))


def has_checkpoint(workdir: epath.Path) -> bool:
  """Returns whether a run has a finished checkpoint to resume from."""
  folder = workdir / CHECKPOINTS
  return folder.is_dir() and bool(_steps(folder))


def read(folder: epath.Path) -> dict[str, Any]:
  """Returns the latest weights, or their moving average if the run keeps one.

  The folder is a workdir or its folder of checkpoints; `final_weights` are
  ignored. Unlike `store.Store`, this writes nothing, so the run may be in
  progress. Damaged checkpoints are skipped with a warning.

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
      params = _restore(step, folder / str(step) / 'state')
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
    'loss', 'image_size' and 'evaluation' from config.json, with 'pool' and
    'positions' where `description.add_recorded` needs them; and 'class_names'
    and 'multi_label' from results.json, or from data.json while the run is in
    progress, each if recorded.
  """
  if folder.name == CHECKPOINTS:
    folder = folder.parent
  config = read_json(folder / CONFIG) or {}
  recorded = {}
  # GELU and epsilon are unset for ResNets.
  for key in ('model.gelu', 'model.norm_eps', 'loss'):
    if value := config.get(key):
      recorded[key.removeprefix('model.')] = value
  if config.get('model.positions') == 'sincos2d':
    recorded['positions'] = 'sincos2d'
  if config.get('model.class_token') and config.get('model.pool') == 'gap':
    recorded['pool'] = 'gap'
  if height := config.get('data.image_size'):
    recorded['image_size'] = height, config.get('data.image_width') or height
  if crop := config.get('data.eval_crop'):
    precrop_px = config.get('data.precrop_size')
    recorded['evaluation'] = Evaluation(
      crop,
      config.get('data.eval_interpolation') or 'bilinear',
      precrop_size=(precrop_px, precrop_px) if precrop_px else None,
      trim_px=config.get('data.trim_px', 0),
      bits=config.get('data.bits') or 8,
    )
  file = RESULTS if (folder / RESULTS).exists() else DATA
  content = read_json(folder / file) or {}
  names = content.get('class_names')
  return {
    CONFIG: recorded,
    file: {
      'class_names': names and tuple(names),
      'multi_label': content.get('multi_label') or None,
    },
  }


def _steps(folder):
  """Returns the steps of finished checkpoints, newest first."""
  steps = [
    int(path.name)
    for path in folder.iterdir()
    if re.fullmatch('[0-9]{1,15}', path.name)
    and (path / checksums.MANIFEST).exists()
  ]
  return sorted(steps, reverse=True)


def _restore(step, state):
  handler = ocp.PyTreeCheckpointHandler()
  try:
    saved = handler.metadata(state).tree
    part = 'ema_params' if saved.get('ema_params') else 'params'
    item = {part: saved[part]}
    structure.check(item[part])
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    restored = handler.restore(
      state,
      args=ocp.args.PyTreeRestore(
        item=item,
        restore_args=jax.tree.map(lambda _: as_numpy, item),
        partial_restore=True,
      ),
    )
  except MemoryError:
    raise
  except Exception as error:  # Orbax raises errors of many types.
    raise ValueError(
      f'checkpoint {step} cannot be restored'
      f' ({foreign_errors.message(error).rstrip(".")}); give another checkpoint'
      ' or weight file.'
    ) from error
  return restored[part]


class _Fields(dict):
  """A JSON object of a file, which reports missing fields to the user."""

  path: epath.Path

  def __missing__(self, name: str) -> None:
    raise ValueError(
      f'{self.path} has no field {name!r}; restore the file, or remove it.'
    )


def read_json(path: epath.Path) -> Any:
  """Returns the object in a JSON file, or None if there is no file.

  Raises:
    ValueError: if the file is damaged, a field is not of its type, or, later,
      if a field that is looked up is missing.
  """
  if not path.exists():
    return None
  regular_file.check(path)
  return parse_json(path.read_bytes(), path)


def parse_json(
  text: bytes, path: epath.Path, place: str = '', expected: type = dict
) -> Any:
  """Returns the content of a JSON text.

  Args:
    text: the text.
    path: file that it is from.
    place: position of the text in the file, for messages.
    expected: type of the content.

  Raises:
    ValueError: same as in `read_json`.
  """

  def fields(pairs):
    content = _Fields(pairs)
    content.path = path
    return content

  advice = 'the file may have been cut short; restore it, or remove it.'
  try:
    content = json.loads(text, object_pairs_hook=fields)
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f'{path}{place} is not JSON ({error}): {advice}'
    ) from error
  if not isinstance(content, expected):
    raise ValueError(
      f'{path}{place} is a {type(content).__name__} in JSON, but a'
      f' {expected.__name__} is expected: {advice}'
    )
  for name, field in _FIELDS.get(path.name, {}).items():
    value = content.get(name)
    if value is not None and not isinstance(value, field):
      raise ValueError(
        f'{path}: {name!r} is of type {type(value).__name__}, but'
        f' {field.__name__} is expected; restore the file, or remove it.'
      )
  return content
