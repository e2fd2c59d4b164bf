"""Safetensors files: named arrays and string metadata.

https://huggingface.co/docs/safetensors: eight bytes with the length of a JSON
header, the header, and the arrays. Reading them cannot run code.
"""

from collections.abc import Iterator, Mapping
import contextlib
import json
import math
import os
from typing import Any, BinaryIO

from etils import epath
import jax.numpy as jnp
import numpy as np

try:
  import safetensors.numpy
except ImportError:  # An optional dependency, for writing.
  safetensors = None

from vit_jax.checkpoints import atomic
from vit_jax.checkpoints.formats import stored

_DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(jnp.bfloat16),
}
_METADATA = '__metadata__'
_MAX_HEADER_BYTES = 100_000_000  # Same as in the safetensors library.


@contextlib.contextmanager
def open_file(
  path: epath.Path,
) -> Iterator[tuple[stored.Arrays, dict[str, str]]]:
  """Opens a file for reading; yields its arrays and its metadata.

  Raises:
    ValueError: if the header is damaged or does not match the file.
  """
  with path.open('rb') as file:
    try:
      header, start, end = _read_header(file)
      metadata = _read_metadata(header.pop(_METADATA, {}))
      entries = {name: _entry(name, x) for name, x in header.items()}
      _check_layout(entries, end - start)
    except (ValueError, RecursionError) as error:
      reason = stored.shortened(str(error))
      raise ValueError(
        f'not a readable .safetensors file ({reason}); it is truncated or'
        ' damaged. Download or write it again.'
      ) from error
    yield (
      stored.Arrays(
        sorted(entries), lambda name: _find(file, start, name, *entries[name])
      ),
      metadata,
    )


def _read_header(file: BinaryIO) -> tuple[dict[str, Any], int, int]:
  """Returns the header, and where the arrays start and end."""
  end = file.seek(0, os.SEEK_END)
  file.seek(0)
  length = int.from_bytes(file.read(8), 'little')
  start = 8 + length
  if not 2 <= length <= min(end - 8, _MAX_HEADER_BYTES):
    raise ValueError(
      f'the header declares {length:,} bytes, but the file has {end:,}'
    )
  header = json.loads(file.read(length), object_pairs_hook=_without_repetition)
  if not isinstance(header, dict):
    raise ValueError('the header is not a JSON object')
  return header, start, end


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  content = dict(pairs)
  if len(content) < len(pairs):
    names = [name for name, _ in pairs]
    repeated = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'{repeated!r} occurs twice in the header')
  return content


def _read_metadata(content: Any) -> dict[str, str]:
  if not isinstance(content, dict) or not all(
    isinstance(text, str) for text in content.values()
  ):
    raise ValueError(f'{_METADATA} is not an object of strings')
  return content


def _entry(
  name: str, content: Any
) -> tuple[str, tuple[int, ...], tuple[int, int]]:
  """Returns the type, the shape and the range of bytes of an array."""
  match content:
    case {
      'dtype': str(dtype),
      'shape': [*shape],
      'data_offsets': [int(begin), int(end)],
    } if all(type(side) is int and side >= 0 for side in shape):
      return dtype, tuple(shape), (begin, end)
  raise ValueError(
    f'the entry of {name!r} lacks a dtype, a shape of positive numbers, or two'
    ' data_offsets'
  )


def _check_layout(entries: Mapping[str, tuple], num_bytes: int) -> None:
  """Checks that the arrays fill the file, one after the other."""
  position = 0
  for name, (dtype, shape, (begin, end)) in sorted(
    entries.items(), key=lambda item: item[1][2]
  ):
    if begin != position or not begin <= end <= num_bytes:
      raise ValueError(
        f'the data of {name!r} are at bytes {begin:,} to {end:,} of'
        f' {num_bytes:,}; expected them to start at {position:,}'
      )
    if dtype in _DTYPES:
      needed = math.prod(shape) * _DTYPES[dtype].itemsize
      if needed != end - begin:
        raise ValueError(
          f'parameter {name!r} of shape {shape} and type {dtype} takes'
          f' {needed:,} bytes, but has {end - begin:,}'
        )
    position = end
  if position != num_bytes:
    raise ValueError(
      f'the arrays end at byte {position:,} of {num_bytes:,} after the header'
    )


def _find(
  file: BinaryIO,
  start: int,
  name: str,
  dtype: str,
  shape: tuple[int, ...],
  place: tuple[int, int],
) -> stored.Stored:
  if dtype not in _DTYPES:
    raise ValueError(
      f'parameter {name!r} has the type {dtype}; expected one of'
      f' {", ".join(_DTYPES)}.'
    )
  stored.check_header(name, shape, _DTYPES[dtype])

  def read():
    begin, end = place
    file.seek(start + begin)
    data = bytearray(file.read(end - begin))
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)

  return stored.Stored(shape, _DTYPES[dtype], read)


def write(
  arrays: Mapping[str, np.ndarray], metadata: dict[str, str], path: epath.Path
) -> None:
  """Writes a file atomically.

  Raises:
    ImportError: if the safetensors library is not installed.
  """
  if safetensors is None:
    raise ImportError(
      'writing .safetensors files needs the safetensors library, which is not'
      ' installed; run `pip install safetensors`.'
    )
  arrays = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
  metadata = {'format': 'pt'} | metadata  # PyTorch libraries need this entry.
  atomic.write_bytes(path, safetensors.numpy.save(arrays, metadata))
