"""The official weight files: NumPy archives with one array per parameter.

Names join the path to a parameter by slashes, as in
`Transformer/encoderblock_0/LayerNorm_0/scale`.
"""

import io
import os
import re
from typing import Any
import zipfile
import zlib

from etils import epath
from flax import traverse_util
import numpy as np


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads a file into a nested dict of arrays under Linen names.

  The files published with the paper number the parts of a block across classes
  (`LayerNorm_2`, `MlpBlock_3`); they come back under Linen's names.

  Args:
    path: a local path or a URL such as gs://bucket/file.npz.

  Raises:
    ValueError: if the file is missing, damaged, or holds anything but arrays;
      objects that need unpickling are refused, since they may run code.
  """
  path = epath.Path(path)
  if not path.is_file():
    raise ValueError(f'{path}: no such file; give the path of an .npz file.')
  with path.open('rb') as file:
    try:
      archive = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
      raise ValueError(
        f'{path} is not a readable .npz archive ({error}); it is cut short or'
        ' of another format: download or write it again.'
      ) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
      raise ValueError(
        f'{path} holds a single array without a name; expected an .npz archive'
        ' with an array for each parameter.'
      )
    flat = {name: _read(path, archive, name) for name in archive.files}
  return linen_names(traverse_util.unflatten_dict(flat, sep='/'))


def save(params: dict[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes a tree of parameters under the official names.

  The file appears whole or not at all: it is written beside its place, then
  renamed. Missing folders are made.
  """
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  unfinished = path.parent / f'{path.name}.tmp'
  flat = traverse_util.flatten_dict(params, sep='/')
  archive = io.BytesIO()  # Bucket files cannot seek, as np.savez does.
  np.savez(archive, **{name: np.asarray(x) for name, x in flat.items()})
  unfinished.write_bytes(archive.getvalue())
  unfinished.replace(path)


def linen_names(tree: dict[str, Any]) -> dict[str, Any]:
  """Renumbers the parts of every module per class, each class from 0.

  Before Linen, flax numbered unnamed submodules in order of creation, whatever
  their class: LayerNorm_0, MultiHeadDotProductAttention_1, LayerNorm_2,
  MlpBlock_3. Trees under Linen names come back equal.
  """
  numbered = re.compile(r'(.+)_(\d+)')
  indices_by_class = {}
  for name in tree:
    if match := numbered.fullmatch(name):
      indices_by_class.setdefault(match[1], []).append(int(match[2]))

  def rename(name):
    match = numbered.fullmatch(name)
    if not match:
      return name
    indices = sorted(indices_by_class[match[1]])
    return f'{match[1]}_{indices.index(int(match[2]))}'

  return {
    rename(name): linen_names(value) if isinstance(value, dict) else value
    for name, value in tree.items()
  }


def _read(path, archive, name):
  try:
    value = archive[name]
  except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(
      f'{path}: parameter {name!r} cannot be read ({error}); expected a plain'
      ' array: download or write the file again.'
    ) from error
  if not isinstance(value, np.ndarray):
    raise ValueError(f'{path}: {name!r} is not an array.')
  return value
