"""The list of an image folder, kept in a file: `data.index`.

Listing millions of files on a network drive takes minutes to hours. The first
process writes the list, and restarts and other processes read it. The file is a
NumPy archive (.npz) with these arrays:
  folder: path of the folder, a string.
  layout: JSON with the fields `split_folders` and `counts` of a `Listing`.
  names: bytes (uint8) of the files' paths below the folder, each followed by a
    zero byte.
  special: positions of FIFOs, sockets and devices, int64.
  sizes: file sizes in bytes, -1 for files that cannot be read, int64.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import uuid
import zipfile
import zlib

from etils import epath
from jaxtyping import Int64
import numpy as np

from vit_jax.checkpoints import atomic, location, regular_file


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
  """The image files below a folder.

  Attributes:
    split_folders: name of the folder of each split; empty if the folders are
      classes.
    counts: number of files of each class, by split; the only split is '' if
      the folders are classes.
    names: path of every file below the folder, in the order of `counts`, each
      followed by a zero byte.
    special: positions of FIFOs, sockets and devices.
    sizes: size of each file in bytes; None if they were not read.
  """

  split_folders: dict[str, str]
  counts: dict[str, dict[str, int]]
  names: bytes
  special: Int64[np.ndarray, ' special']
  sizes: Int64[np.ndarray, ' n'] | None = None

  @property
  def num_files(self) -> int:
    """Number of files of all splits."""
    return sum(sum(counts.values()) for counts in self.counts.values())


def read(path: str, root: epath.Path) -> Listing | None:
  """Returns the list of a folder from a file, None if there is no file.

  Raises:
    ValueError: if the file is not such a list, or that of another folder.
  """
  file = location.expand(path)
  if not file.exists():
    return None
  regular_file.check(file)
  if file.is_dir():
    raise ValueError(
      f'data.index: {path} is a folder; give the path of a file in it.'
    )
  try:
    with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
      folder, layout = str(arrays['folder']), json.loads(str(arrays['layout']))
      listing = Listing(
        layout['split_folders'],
        layout['counts'],
        arrays['names'].tobytes(),
        arrays['special'],
        arrays['sizes'],
      )
    lengths = {
      len(listing.sizes), listing.num_files, listing.names.count(b'\0')
    }  # fmt: skip
    if len(lengths) > 1:
      raise ValueError('the numbers of names, sizes and images differ')
  except (
    EOFError, ValueError, KeyError, TypeError, AttributeError,
    zipfile.BadZipFile, zlib.error,
  ) as error:  # fmt: skip
    raise ValueError(
      f'data.index: {path} is damaged, or not the list of a folder; remove it,'
      ' and it will be written again, or choose another file.'
    ) from error
  if folder != _absolute(root):
    raise ValueError(
      f'data.index: {path} lists {folder}, not {_absolute(root)}; choose'
      ' another file, or remove this one to list the folder again.'
    )
  return listing


def write(path: str, root: epath.Path, listing: Listing) -> None:
  """Writes the list of a folder to a file.

  Raises:
    ValueError: if it cannot be written.
  """
  content = io.BytesIO()
  np.savez_compressed(
    content,
    folder=_absolute(root),
    layout=json.dumps(
      {'split_folders': listing.split_folders, 'counts': listing.counts}
    ),
    names=np.frombuffer(listing.names, np.uint8),
    special=listing.special,
    sizes=listing.sizes,
  )
  try:
    # Runs on other hosts may write the same file at the same time.
    atomic.replace(
      location.expand(path), content.getvalue(), f'.{uuid.uuid4().hex}.tmp'
    )
  except OSError as error:
    raise ValueError(
      f'data.index: cannot write {path} ({error}); choose a file in a folder'
      ' that can be written.'
    ) from error


def _absolute(root: epath.Path) -> str:
  text = os.fspath(root)
  return text if '://' in text else os.path.abspath(text)
