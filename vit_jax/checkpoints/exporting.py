"""Exports weights in every supported format."""

from collections.abc import Collection, Sequence
import os
from typing import Any

import numpy as np

from vit_jax.checkpoints import description, finite, location
from vit_jax.checkpoints.formats import FORMATS, official
from vit_jax.models import layers
from vit_jax.models import positions as positions_lib

# Default format of a file, by suffix.
_DEFAULT_FORMATS = {'.npz': 'official', '.safetensors': 'timm'}
# Settings that readers assume for formats that store none.
_ASSUMED = {
  'gelu': 'tanh',
  'norm_eps': 1e-6,
  'class_names': None,
  'evaluation': description.Evaluation(),
}


def export(
  params: dict[str, Any],
  path: str | os.PathLike[str],
  *,
  format: str | None = None,
  drop: Collection[str] = (),
  gelu: str = 'tanh',
  norm_eps: float = 1e-6,
  positions: str | None = None,
  pool: str | None = None,
  image_size: int | tuple[int, int] | None = None,
  class_names: Sequence[str] | None = None,
  evaluation: description.Evaluation = _ASSUMED['evaluation'],
) -> None:
  """Writes weights atomically.

  Exported weights expect images in [-1, 1]; formats that can record this do.

  Args:
    params: a tree under official names.
    path: local or gs://; missing folders are created.
    format: key of `formats.FORMATS`; None for 'official' if the path ends in
      .npz and 'timm' if it ends in .safetensors.
    drop: parts of the model to leave out, such as 'pre_logits', and settings
      that may be lost, such as 'gelu'. A head that was trained on the output of
      a dropped part receives other features.
    gelu, norm_eps: settings of the model, as in `models.create`.
    positions, pool: options of the model, as in `models.create`; needed for
      fixed positions and for a mean of patches in a model with a class token,
      which cannot be inferred from the weights.
    image_size: side, or height and width, in pixels; 'huggingface' needs it if
      the grid of patches is not square, and so do formats that store fixed
      positions as a table.
    class_names: in the order of the labels.
    evaluation: preprocessing of images for evaluation and prediction.

  Raises:
    ImportError: if the library for the format is not installed.
    finite.NonFiniteError: if a weight is NaN or infinite.
    ValueError: if the format is unknown or cannot hold the model.
  """
  path = location.expand(path)
  finite.check(params, f'cannot write {path}', '.')
  settings = {
    'gelu': gelu,
    'norm_eps': norm_eps,
    'class_names': class_names,
    'evaluation': evaluation,
  }
  try:
    name = _format_name(path, format)
    if gelu not in layers.GELUS:
      raise ValueError(
        f'unknown gelu {gelu!r}; known: {", ".join(layers.GELUS)}.'
      )
    hidden = _hidden(params, positions, pool)
    for part in drop:
      if part not in params and part not in settings | hidden:
        raise ValueError(
          f'drop contains {part!r}, which is not part of the model; it has'
          f' {", ".join(params)}.'
        )
    lost = {k: v for k, v in hidden.items() if k not in FORMATS[name].options}
    if not FORMATS[name].stores_settings:
      lost |= {k: v for k, v in settings.items() if v != _ASSUMED[k]}
    for setting, value in lost.items():
      if setting not in drop:
        raise ValueError(
          f'the {name} format cannot store {setting}={value!r}; choose'
          f' another format, or accept the loss with drop=({setting!r},).'
        )
    kept = {part: value for part, value in params.items() if part not in drop}
    if 'positions' in hidden and name != 'big_vision':
      kept = _with_table(kept, image_size) if name != 'official' else kept
    if name != 'official':
      _check_standard(kept, name, hidden)
    if 'pool' in hidden and 'pool' not in lost:
      settings['pool'] = pool
    FORMATS[name].write(kept, path, image_size=image_size, **settings)
  except ValueError as error:
    raise ValueError(f'cannot write {path}: {error}') from error


def _hidden(params, positions, pool):
  """Returns the model options that cannot be inferred from its weights."""
  shown = description.sizes(params)
  hidden = {'positions': positions, 'pool': pool}
  return {
    name: value
    for name, value in hidden.items()
    if description.add_recorded(shown, name, value) != shown
  }


def _with_table(params, image_size):
  """Returns the weights with fixed positions as learned ones."""
  sizes = description.sizes(params)
  if image_size is None:
    raise ValueError(
      'fixed positions are exported as a table for one image size; pass'
      ' image_size=(HEIGHT, WIDTH).'
    )
  grid = positions_lib.grid_shape(image_size, sizes['patch_size'])
  table = positions_lib.sincos_table(grid, sizes['width'])[None]
  if 'cls' in params:
    table = np.concatenate([np.zeros_like(table[:, :1]), table], axis=1)
  flat = official.flatten(params) | {official.POSITIONS: table}
  return official.unflatten(flat)


def _check_standard(params, format, hidden):
  """Rejects model options that the format cannot store."""
  sizes = description.sizes(params) | hidden
  options = FORMATS[format].options
  variants = [
    f'{name}={value!r}'
    for name, value in sizes.items()
    if ('positions' in name and (name, value) != ('positions', 'sincos2d'))
    or (name in ('registers', 'class_token') and name not in options)
    or (name == 'pool' and value not in ('token', 'gap', *options))
  ]
  if description.is_axial(params):
    variants.append('attention along rows and columns')
  if variants:
    raise ValueError(
      f'the {format} format cannot store {" and ".join(variants)}; export'
      ' to an .npz file in the official format.'
    )


def _format_name(path, name):
  """Returns the name of the format for a path, after checking both."""
  writable = {n: f for n, f in FORMATS.items() if f.write}
  problem = f'unknown format {name!r}'
  if name is None:
    name = _DEFAULT_FORMATS.get(path.suffix)
    problem = f'the suffix {path.suffix!r} does not determine a format'
  if name not in writable:
    known = ', '.join(
      f'{n!r} ({"a folder" if f.writes_folder else f.suffix})'
      for n, f in writable.items()
    )
    raise ValueError(f'{problem}; known formats, for format=NAME: {known}.')
  if FORMATS[name].writes_folder:
    fits, target = path.suffix not in _DEFAULT_FORMATS, 'a folder'
  else:
    suffix = FORMATS[name].suffix
    fits, target = path.suffix == suffix, f'a file ending in {suffix}'
  if not fits:
    raise ValueError(
      f'the {name} format writes {target}; choose another path or format.'
    )
  return name
