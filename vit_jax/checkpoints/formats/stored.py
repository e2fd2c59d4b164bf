"""Arrays in a weight file: shapes and types first, data on access."""

from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from vit_jax.checkpoints import array_check

_MAX_AXES = 8


@dataclasses.dataclass(frozen=True)
class Stored:
  """An array in a file.

  Attributes:
    shape: its shape, according to the header.
    dtype: its type, according to the header.
    read: reads the array.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]

  @property
  def nbytes(self) -> int:
    """Size of the data in bytes."""
    return math.prod(self.shape) * self.dtype.itemsize


class Arrays(Mapping[str, np.ndarray]):
  """Mapping from names to the arrays of an open file, read on access.

  Attributes:
    unread: names of the arrays not accessed yet.
  """

  def __init__(self, names: Iterable[str], find: Callable[[str], Stored]):
    """Lists the arrays of a file.

    Args:
      names: names of the arrays.
      find: returns the array with a name, after reading and checking its
        header.
    """
    self._find = find
    self._stored: dict[str, Stored | None] = dict.fromkeys(names)
    self.unread = list(self._stored)

  def __iter__(self) -> Iterator[str]:
    return iter(self._stored)

  def __contains__(self, name: object) -> bool:
    return name in self._stored

  def __len__(self) -> int:
    return len(self._stored)

  def __getitem__(self, name: str) -> np.ndarray:
    """Reads an array.

    Raises:
      KeyError: if the file has no array with this name.
      ValueError: if the array is damaged, or does not hold finite
        floating-point numbers.
    """
    value = self.header(name).read()
    if name in self.unread:
      self.unread.remove(name)
    array_check.check(name, value)
    return value

  def header(self, name: str) -> Stored:
    """Returns the header of an array, without reading its data.

    Raises:
      KeyError: if the file has no array with this name.
      ValueError: if the header is damaged, or is not that of a parameter.
    """
    stored = self._stored[name]
    if stored is None:
      stored = self._stored[name] = self._find(name)
    return stored

  def placeholders(self) -> Mapping[str, np.ndarray]:
    """Returns arrays of zeros in the same shapes, which take no memory.

    With them, a file can be checked before its data is read.
    """
    return _Placeholders(self)


class _Placeholders(Mapping[str, np.ndarray]):
  def __init__(self, arrays):
    self._arrays = arrays

  def __iter__(self):
    return iter(self._arrays)

  def __contains__(self, name):
    return name in self._arrays

  def __len__(self):
    return len(self._arrays)

  def __getitem__(self, name):
    stored = self._arrays.header(name)
    return np.broadcast_to(np.zeros((), stored.dtype), stored.shape)


def check_header(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
  """Checks what a file declares about an array.

  Raises:
    ValueError: if a parameter cannot have this shape and type.
  """
  array_check.check_type(name, dtype)
  is_valid = all(type(side) is int and 0 < side < 2**62 for side in shape)
  if len(shape) > _MAX_AXES or not is_valid:
    raise ValueError(
      f'parameter {name!r} declares the shape {shortened(str(shape))}; expected'
      f' at most {_MAX_AXES} axes, none of them empty. Download or write the'
      ' file again.'
    )


def shortened(text: str) -> str:
  """Shortens text from a file to a length that suits a message."""
  return text if len(text) <= 120 else f'{text[:120]}...'


def native_type(dtype: np.dtype) -> np.dtype:
  """Returns the actual type of an array, given the type in an .npy header."""
  if dtype == np.dtype('V2'):  # NumPy stores bfloat16 as raw bytes.
    return np.dtype(jnp.bfloat16)
  return dtype
