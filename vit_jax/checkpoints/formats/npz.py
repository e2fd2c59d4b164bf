"""NumPy archives: one named array per parameter, pickles refused."""

from collections.abc import Iterator, Mapping
import contextlib
import io
import zipfile
import zlib

from etils import epath
import jax.numpy as jnp
import numpy as np

from vit_jax.checkpoints import atomic


class Archive(Mapping[str, np.ndarray]):
  """The arrays of an open archive by name, each read when it is asked for.

  Attributes:
    unread: the names not asked for so far.
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
      KeyError: if the archive has none of this name.
      ValueError: if it is damaged or needs unpickling, which may run code.
    """
    if name not in self:
      raise KeyError(name)
    try:
      value = self._archive[name]
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
      raise ValueError(
        f'parameter {name!r} cannot be read ({error}); expected a plain array:'
        ' download or write the file again.'
      ) from error
    if not isinstance(value, np.ndarray):
      raise ValueError(
        f'{name!r} is not an array; of files with pickled objects, such as'
        ' those of torch.save, only a copy as .safetensors can be read.'
      )
    if name in self.unread:
      self.unread.remove(name)
    if value.dtype == np.dtype('V2'):  # The format has no name for bfloat16.
      value = value.view(jnp.bfloat16)
    return value


@contextlib.contextmanager
def open_archive(path: epath.Path) -> Iterator[Archive]:
  """Opens a file for reading.

  Raises:
    ValueError: if it is cut short or not an archive.
  """
  with path.open('rb') as file:
    try:
      archive = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
      raise ValueError(
        f'not a readable .npz archive ({error}); it is cut short or of another'
        ' format: download or write it again.'
      ) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
      raise ValueError(
        'a single array without a name; expected an .npz archive with an array'
        ' for each parameter.'
      )
    yield Archive(archive)


def write(arrays: Mapping[str, np.ndarray], path: epath.Path) -> None:
  """Writes an archive, whole or not at all."""
  archive = io.BytesIO()  # Bucket files cannot seek, as np.savez does.
  np.savez(archive, **arrays)
  atomic.write_bytes(path, archive.getvalue())
