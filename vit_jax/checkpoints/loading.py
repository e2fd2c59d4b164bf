"""Loads weights in every supported format."""

import logging
import os
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.checkpoints import description, run_folder
from vit_jax.checkpoints.formats import (
  FORMATS,
  huggingface,
  npz,
  official,
  safetensors_file,
)

_log = logging.getLogger(__name__)

Params = dict[str, Any]

# In these formats, a model without learned positions has fixed ones.
_ALWAYS_WITH_POSITIONS = ('big_vision', 'timm', 'huggingface')


def load(path: str | os.PathLike[str], *, heads: int | None = None) -> Params:
  """Loads weights as a nested dict of arrays under official names.

  Same as `load_with_description`, without the description.
  """
  return load_with_description(path, heads=heads)[0]


def load_with_description(
  path: str | os.PathLike[str], *, heads: int | None = None
) -> tuple[Params, description.Description]:
  """Loads weights and a description of their model.

  The content of a file determines its format; its name does not matter.

  Args:
    path: path, or URL such as gs://bucket/file.npz, of an .npz file of the
      official code (ViT, AugReg, SAM, hybrids), of BiT, of big_vision or of
      this project; of a .safetensors file of timm or Hugging Face, or a folder
      with one; or of the workdir of a run, or its folder of checkpoints.
    heads: number of attention heads; only needed for a .safetensors file of a
      model of unusual width, if neither it nor a config.json records them.

  Returns:
    NumPy arrays, with narrow floats widened to float32, and the description.

  Raises:
    ImportError: if the library for the format is not installed.
    ValueError: if the path does not exist, or the file is damaged, incomplete,
      of unknown format or contains anything but arrays. The message starts with
      the path.
  """
  path = epath.Path(path)
  try:
    params, described = _read(path, heads)
    official.check_blocks(params)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return jax.tree.map(_widened, params), described


def _read(path, heads):
  if path.is_dir():
    if run_folder.is_run(path):
      params = run_folder.read(path)
      return params, _describe(params, 'run', run_folder.settings(path))
    if (path / huggingface.WEIGHTS).exists():
      return _read_safetensors(path / huggingface.WEIGHTS, heads)
    raise ValueError(
      f'the folder contains neither {huggingface.WEIGHTS} nor the checkpoints'
      ' of a run; give the path of a weight file in it.'
    )
  if not path.exists():
    raise ValueError(
      'no such file or folder; give the path of an .npz or .safetensors file,'
      ' or of the folder of a run.'
    )
  with path.open('rb') as file:
    start = file.read(9)
  suffix = path.suffix  # For a damaged file, whose reader explains the damage.
  if start.startswith((b'PK', b'\x93NUMPY')):
    suffix = '.npz'
  elif start.endswith(b'{'):  # Eight bytes, then the JSON header.
    suffix = '.safetensors'
  if suffix == '.npz':
    return _read_npz(path)
  if suffix == '.safetensors':
    return _read_safetensors(path, heads)
  raise ValueError(
    f'unknown format: neither the content nor the suffix {suffix!r} is that of'
    ' a weight file; known suffixes: .npz, .safetensors.'
  )


def _read_npz(path):
  with npz.open_archive(path) as archive:
    name = _match('.npz', archive)
    params = FORMATS[name].read(archive)
    if archive.unread:
      _log.info(
        '%s: ignored %d arrays that do not belong to an image model, such as'
        ' %s',
        path,
        len(archive.unread),
        archive.unread[0],
      )
    settings = FORMATS[name].settings(path, {})
    return params, _describe(params, name, settings, archive.unread)


def _read_safetensors(path, heads):
  arrays, metadata = safetensors_file.read(path)
  name = _match('.safetensors', arrays)
  settings = FORMATS[name].settings(path, metadata)
  recorded_heads = settings.pop('heads', None)
  params = FORMATS[name].read(arrays, heads or recorded_heads)
  return params, _describe(params, name, settings)


def _match(suffix, arrays):
  """Returns the name of the first format that matches the arrays of a file."""
  candidates = {n: f for n, f in FORMATS.items() if f.suffix == suffix}
  for name, format in candidates.items():
    if format.matches(arrays):
      return name
  raise ValueError(
    f'not a Vision Transformer of {" or ".join(candidates)}: the file has no'
    ' patch embedding under the names of these libraries; it contains'
    f' {", ".join(list(arrays)[:3])}.'
  )


def _describe(params, format, settings, ignored=()):
  sizes = description.sizes(params)
  if sizes.get('positions') == 'none' and format in _ALWAYS_WITH_POSITIONS:
    raise ValueError(
      'there are no position embeddings; models with computed ones, such as'
      ' sinusoidal or rotary ones, are not supported.'
    )
  return description.Description(
    format,
    sizes=sizes,
    num_classes=description.num_classes(params),
    axial=description.is_axial(params),
    ignored=tuple(ignored),
    **settings,
  )


def _widened(array):
  narrow = jnp.issubdtype(array.dtype, jnp.floating) and array.itemsize < 4
  return array.astype(np.float32) if narrow else array
