"""NumPy archives (.npz) with one array per parameter; pickles are refused."""

from collections.abc import Iterator, Mapping
import contextlib
import io
import zipfile
import zlib

from etils import epath
import jax.numpy as jnp
import numpy as np

from vit_jax.checkpoints import array_check, atomic


class Archive(Mapping[str, np.ndarray]):
  """Mapping from names to the arrays of an open archive, read on access.

  Attributes:
    unread: names of the arrays not accessed yet.
  """

  def __init__(self, archive: np.lib.npyio.NpzFile):
    self._archive = archive
    self.unread = list(archive.files)

  def __iter__(self) -> Iterator[str]:
    return iter(self._archive.files)

  def __contains__(self, name: object) -> bool:
    return name in self._archive.files

  def __len__(self) -> int:
    return len(self._archive.files)

  def __getitem__(self, name: str) -> np.ndarray:
    """Reads an array.

    Raises:
      KeyError: if the archive has no array with this name.
      ValueError: if the array is damaged, does not hold finite floating-point
        numbers, or is pickled, since unpickling can run arbitrary code.
    """
    if name not in self:
      raise KeyError(name)
    try:
      value = self._archive[name]
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
      raise ValueError(
        f'parameter {name!r} cannot be read ({error}); expected a plain array.'
        ' Download or write the file again.'
      ) from error
    if not isinstance(value, np.ndarray):
      raise ValueError(
        f'{name!r} is not an array. Files with pickled objects, such as those'
        ' of torch.save, are not supported; convert the file to .safetensors.'
      )
    if name in self.unread:
      self.unread.remove(name)
    if value.dtype == np.dtype('V2'):  # NumPy stores bfloat16 as raw bytes.
      value = value.view(jnp.bfloat16)
    array_check.check(name, value)
    return value


@contextlib.contextmanager
def open_archive(path: epath.Path) -> Iterator[Archive]:
  """Opens an archive for reading.

  Raises:
    ValueError: if the file is truncated or not an archive.
  """
  with path.open('rb') as file:
    try:
      archive = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
      raise ValueError(
        f'not a readable .npz archive ({error}); the file is truncated or in'
        ' another format. Download or write it again.'
      ) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
      raise ValueError(
        'the file holds a single array without a name; expected an .npz archive'
        ' with one array per parameter.'
      )
    yield Archive(archive)


def write(arrays: Mapping[str, np.ndarray], path: epath.Path) -> None:
  """Writes an archive atomically."""
  archive = io.BytesIO()  # np.savez seeks, which gs:// files cannot.
  np.savez(archive, **arrays)
  atomic.write_bytes(path, archive.getvalue())
