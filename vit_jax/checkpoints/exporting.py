"""Weights to files and folders of every supported format."""

from collections.abc import Callable, Collection, Sequence
import dataclasses
import os
from typing import Any

from etils import epath

from vit_jax.checkpoints import (
  big_vision,
  description,
  hub,
  npz,
  official,
  pytorch,
  safetensors_file,
)
from vit_jax.models import vit


@dataclasses.dataclass(frozen=True)
class Format:
  """A format that weights can be written in.

  Attributes:
    write: writes parameters to a path; its keywords are the settings and
      `image_size`.
    ending: of the path; None for a folder.
    holds_settings: whether it keeps what is no parameter: gelu, norm_eps and
      class_names.
  """

  write: Callable[..., None]
  ending: str | None
  holds_settings: bool


def export(
  params: dict[str, Any],
  path: str | os.PathLike[str],
  *,
  format: str | None = None,
  drop: Collection[str] = (),
  gelu: str = 'tanh',
  norm_eps: float = 1e-6,
  image_size: int | tuple[int, int] | None = None,
  class_names: Sequence[str] | None = None,
) -> None:
  """Writes weights so that they are there whole or not at all.

  Args:
    params: a tree under official names.
    path: local or gs://; missing folders are made.
    format: a key of `FORMATS`; None for 'official' where the path ends in .npz,
      for 'timm' where it ends in .safetensors.
    drop: parts of the model to leave out, such as 'pre_logits', and settings
      that may be lost, such as 'gelu'. A head that was trained behind a part
      left out then sees other features.
    gelu: form of GELU of the model.
    norm_eps: what its LayerNorms add to the variance.
    image_size: side, or height and width, in pixels; 'huggingface' asks for it
      where the grid of patches is not square.
    class_names: in the order of the labels.

  Raises:
    ImportError: if the library for the format is not installed.
    ValueError: if the format is unknown, or cannot hold the model.
  """
  path = epath.Path(path)
  settings = {'gelu': gelu, 'norm_eps': norm_eps, 'class_names': class_names}
  try:
    name, chosen = _format(path, format)
    if gelu not in vit.GELUS:
      raise ValueError(f'unknown gelu {gelu!r}; known: {", ".join(vit.GELUS)}.')
    for part in drop:
      if part not in params and part not in settings:
        raise ValueError(
          f'drop names {part!r}, which is not there; the model has'
          f' {", ".join(params)}.'
        )
    for setting, value in settings.items():
      lost = value != _USUAL[setting] and not chosen.holds_settings
      if lost and setting not in drop:
        raise ValueError(
          f'the {name} format has no place for {setting}={value!r}; choose'
          f' another format, or lose it by drop=({setting!r},).'
        )
    kept = {part: value for part, value in params.items() if part not in drop}
    if name != 'official':
      _check_usual(kept, name)
    chosen.write(kept, path, image_size=image_size, **settings)
  except ValueError as error:
    raise ValueError(f'{path} cannot be written: {error}') from error


def _write_official(params, path, **settings):
  del settings
  npz.write(official.flatten(params), path)


def _write_big_vision(params, path, **settings):
  del settings
  npz.write(big_vision.write(params), path)


def _write_timm(params, path, *, image_size, **settings):
  del image_size
  tensors = pytorch.write(params, 'timm')
  metadata = hub.timm_metadata(params, **settings)
  safetensors_file.write(tensors, metadata, path)


FORMATS = {
  'official': Format(_write_official, '.npz', holds_settings=False),
  'big_vision': Format(_write_big_vision, '.npz', holds_settings=False),
  'timm': Format(_write_timm, '.safetensors', holds_settings=True),
  'huggingface': Format(hub.write, None, holds_settings=True),
}
# What readers of the formats without settings take for granted.
_USUAL = {'gelu': 'tanh', 'norm_eps': 1e-6, 'class_names': None}


def _check_usual(params, format):
  """Refuses models that other code does not have."""
  sizes = description.sizes(params)
  unusual = [
    f'{key}={sizes[key]!r}'
    for key in ('positions', 'positions_at')
    if key in sizes
  ]
  if description.is_axial(params):
    unusual.append('attention along rows and columns')
  if unusual:
    raise ValueError(
      f'the {format} format has no place for {" and ".join(unusual)}; export to'
      ' an .npz file in the official format.'
    )


def _format(path, name):
  """Returns the name of the format for a path, and the format."""
  if name is None:
    suitable = (n for n, f in FORMATS.items() if f.ending == path.suffix)
    name = next(suitable, None)
  if name not in FORMATS:
    known = ', '.join(
      f'{n!r} ({f.ending or "a folder"})' for n, f in FORMATS.items()
    )
    what = f'the ending {path.suffix!r} stands for no format'
    if name is not None:
      what = f'unknown format {name!r}'
    raise ValueError(f'{what}; known formats, for format=NAME: {known}.')
  chosen = FORMATS[name]
  endings = [f.ending for f in FORMATS.values() if f.ending]
  if path.suffix != chosen.ending and (chosen.ending or path.suffix in endings):
    place = f'a file ending in {chosen.ending}' if chosen.ending else 'a folder'
    raise ValueError(
      f'the {name} format goes to {place}; choose another path or format.'
    )
  return name, chosen
