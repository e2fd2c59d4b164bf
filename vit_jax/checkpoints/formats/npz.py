"""NumPy archives (.npz) with one array per parameter; pickles are rejected.

An archive is a ZIP file, and each of its members an .npy file: a header with
the shape and the type of the array, and the data.
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import collections
from collections.abc import Iterator, Mapping
import contextlib
import io
import os
from typing import BinaryIO
import warnings
import zipfile

from etils import epath
import numpy as np

from vit_jax import foreign_errors
from vit_jax.checkpoints import atomic
from vit_jax.checkpoints.formats import stored

_SUFFIX = '.npy'
_MAX_HEADER_BYTES = 1 << 13
# Highest possible compression ratio, by compression method.
_MAX_RATIOS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
_ADVICE = 'Download or write the file again.'


@contextlib.contextmanager
def open_archive(path: epath.Path) -> Iterator[stored.Arrays]:
  """Opens an archive for reading.

  Raises:
    ValueError: if the file is truncated or not an archive.
  """
  with path.open('rb') as file:
    if file.read(6) == np.lib.format.MAGIC_PREFIX:
      raise ValueError(
        'the file holds a single array without a name; expected an .npz archive'
        ' with one array per parameter.'
      )
    try:
      archive = zipfile.ZipFile(file)
    except MemoryError:
      raise
    except Exception as error:  # The library raises errors of many types.
      reason = stored.shortened(str(error))
      raise ValueError(
        f'not a readable .npz archive ({reason}); the file is truncated or in'
        f' another format. {_ADVICE}'
      ) from error
    num_bytes = file.seek(0, os.SEEK_END)
    members = [x for x in archive.infolist() if not x.filename.endswith('/')]
    names = collections.Counter(
      x.filename.removesuffix(_SUFFIX) for x in members
    )
    if repeated := [name for name, count in names.items() if count > 1]:
      raise ValueError(
        f'parameter {repeated[0]!r} occurs {names[repeated[0]]} times; expected'
        f' one array per name. {_ADVICE}'
      )
    infos = dict(zip(names, members, strict=True))
    yield stored.Arrays(
      names, lambda name: _find(archive, name, infos[name], num_bytes)
    )


def _find(
  archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo, num_bytes: int
) -> stored.Stored:
  """Reads the header of a member of an archive of `num_bytes`."""
  if not info.filename.endswith(_SUFFIX):
    raise ValueError(
      f'{name!r} is not an array. Files with pickled objects, such as those'
      ' of torch.save, are not supported; convert the file to .safetensors.'
    )
  _check_member(name, info, num_bytes)
  with _damage_explained(name):
    with archive.open(info) as member:
      # A longer header is cut off here, and rejected.
      start = io.BytesIO(member.read(_MAX_HEADER_BYTES))
    shape, dtype = _read_header(start)
  if dtype.hasobject:
    raise ValueError(
      f'parameter {name!r} holds pickled Python objects, which are not read,'
      ' since they can run code; write the file again with plain arrays.'
    )
  dtype = stored.native_type(dtype)
  stored.check_header(name, shape, dtype)
  found = stored.Stored(shape, dtype, lambda: _read(archive, name, info))
  if (needed := start.tell() + found.nbytes) != info.file_size:
    raise ValueError(
      f'parameter {name!r} of shape {shape} and type {dtype} takes {needed:,}'
      f' bytes, but the archive declares {info.file_size:,}. {_ADVICE}'
    )
  return found


def _check_member(name: str, info: zipfile.ZipInfo, num_bytes: int) -> None:
  """Checks what the archive declares about a member."""
  if info.flag_bits & 1:
    raise ValueError(
      f'parameter {name!r} is encrypted; write the file again without a'
      ' password.'
    )
  if info.compress_type not in _MAX_RATIOS:
    raise ValueError(
      f'parameter {name!r} is compressed by method {info.compress_type};'
      ' expected np.savez (method 0) or np.savez_compressed (method 8).'
    )
  stored_bytes = min(info.compress_size, num_bytes)
  if info.file_size > stored_bytes * _MAX_RATIOS[info.compress_type]:
    raise ValueError(
      f'parameter {name!r} declares {info.file_size:,} bytes, more than the'
      f' file of {num_bytes:,} bytes can hold. {_ADVICE}'
    )


def _read_header(start: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
  version = np.lib.format.read_magic(start)
  readers = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }
  if version not in readers:
    raise ValueError(f'version {version} of the .npy format')
  with warnings.catch_warnings(action='ignore'):  # If written by Python 2.
    shape, _, dtype = readers[version](start)
  return shape, dtype


def _read(
  archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo
) -> np.ndarray:
  """Reads an array whose header was checked."""
  with (
    _damage_explained(name),
    warnings.catch_warnings(action='ignore'),
    archive.open(info) as member,
  ):
    value = np.lib.format.read_array(member, allow_pickle=False)
  return value.view(stored.native_type(value.dtype))


@contextlib.contextmanager
def _damage_explained(name: str) -> Iterator[None]:
  try:
    yield
  except MemoryError:
    raise
  except Exception as error:  # The libraries raise errors of many types.
    reason = stored.shortened(foreign_errors.message(error))
    raise ValueError(
      f'parameter {name!r} cannot be read ({reason}); expected a plain array.'
      f' {_ADVICE}'
    ) from error


def write(arrays: Mapping[str, np.ndarray], path: epath.Path) -> None:
  """Writes an archive atomically."""
  archive = io.BytesIO()  # np.savez seeks, which gs:// files cannot.
  np.savez(archive, **arrays)
  atomic.write_bytes(path, archive.getvalue())
