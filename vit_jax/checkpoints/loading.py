"""Weights from files and folders of every supported format.

The format is told by the content; the ending alone proves nothing.
"""

import logging
import os
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.checkpoints import description, run_folder
from vit_jax.checkpoints.formats import (
  big_vision,
  bit,
  hub,
  npz,
  official,
  pytorch,
  safetensors_file,
)

_log = logging.getLogger(__name__)

Params = dict[str, Any]

# The names in an .npz file tell whose it is; by default the official ones.
NPZ_DIALECTS = {'bit': bit, 'big_vision': big_vision}

# Formats of others whose models without learned positions have fixed ones.
_ALWAYS_WITH_POSITIONS = ('big_vision', 'timm', 'huggingface')


def load(path: str | os.PathLike[str], *, heads: int | None = None) -> Params:
  """Reads weights into a nested dict of arrays under this project's names.

  These are the official names, see `official`. Arguments, arrays and errors are
  those of `load_with_description`.
  """
  return load_with_description(path, heads=heads)[0]


def load_with_description(
  path: str | os.PathLike[str], *, heads: int | None = None
) -> tuple[Params, description.Description]:
  """Reads weights, and what else is known of their model.

  Args:
    path: local or a URL such as gs://bucket/file.npz: an .npz file of the
      official code (ViT, AugReg, SAM, hybrids), of BiT, of big_vision or of
      this project; a .safetensors file of timm or Hugging Face, or a folder
      with one; a run's workdir, or its folder of checkpoints.
    heads: number of attention heads, where neither a .safetensors file nor the
      config.json beside it tells it; no other file needs it.

  Returns:
    NumPy arrays, narrow floats widened to float32, and their description.

  Raises:
    ImportError: if the library for the format is not installed.
    ValueError: if nothing is there, or it is damaged, incomplete, of an unknown
      format, or holds anything but arrays; the message names the file.
  """
  path = epath.Path(path)
  try:
    params, described = _reader(path)(path, heads)
    official.check_blocks(params)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return jax.tree.map(_widened, params), described


def _load_npz(path, heads):
  del heads
  with npz.open_archive(path) as archive:
    format = next(
      (key for key, value in NPZ_DIALECTS.items() if value.matches(archive)),
      'official',
    )
    params = NPZ_DIALECTS.get(format, official).read(archive)
    settings = run_folder.settings(path.parent) if format == 'official' else {}
    if archive.unread:
      _log.info(
        '%s: left out %d arrays that are no parameters of an image model, such'
        ' as %s',
        path,
        len(archive.unread),
        archive.unread[0],
      )
    return params, _describe(params, format, settings, archive.unread)


def _load_pytorch(path, heads):
  tensors, metadata = safetensors_file.read(path)
  format, width = pytorch.recognize(tensors)
  settings = hub.settings(path, format, metadata)
  told_heads = settings.pop('heads', None)
  heads = heads or told_heads or pytorch.usual_heads(width)
  params = pytorch.read(tensors, format, heads)
  return params, _describe(params, format, settings)


def _load_hub_folder(path, heads):
  return _load_pytorch(path / hub.WEIGHTS, heads)


def _load_run(path, heads):
  del heads
  params = run_folder.read(path)
  return params, _describe(params, 'run', run_folder.settings(path))


READERS = {'.npz': _load_npz, '.safetensors': _load_pytorch}


def _reader(path):
  if path.is_dir():
    if run_folder.is_run(path):
      return _load_run
    if (path / hub.WEIGHTS).exists():
      return _load_hub_folder
    raise ValueError(
      f'the folder holds neither {hub.WEIGHTS} nor the checkpoints of a run;'
      ' give the path of a weight file in it.'
    )
  if not path.exists():
    raise ValueError(
      'no such file or folder; give the path of an .npz or .safetensors file,'
      ' or of the folder of a run.'
    )
  with path.open('rb') as file:
    start = file.read(9)
  if start.startswith((b'PK', b'\x93NUMPY')):
    return _load_npz
  if start.endswith(b'{'):  # After the eight bytes of the header's length.
    return _load_pytorch
  if path.suffix in READERS:  # Damaged: its reader knows what to say.
    return READERS[path.suffix]
  raise ValueError(
    f'neither the content nor the ending {path.suffix!r} is that of a weight'
    f' file; known formats: {", ".join(READERS)}.'
  )


def _describe(params, format, settings, ignored=()):
  sizes = description.sizes(params)
  if sizes.get('positions') == 'none' and format in _ALWAYS_WITH_POSITIONS:
    raise ValueError(
      'there are no position embeddings; those that other code computes, such'
      ' as sines or rotations, are not known here.'
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
