"""Lists image files in a folder and its subfolders, and what is skipped."""

from __future__ import annotations

import collections
from collections.abc import Iterator
import os

from etils import epath

from vit_jax import printing
from vit_jax.data import shortened

EXTENSIONS = (
  '.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff',
)  # fmt: skip
_MAX_LISTED = 5  # Folders per reason.


def as_text(path: str | bytes) -> str:
  r"""Returns a path as text; bytes that are not UTF-8 appear as `\xe9`."""
  return os.fsencode(path).decode(errors='backslashreplace')


class Skipped:
  """Files and folders that are skipped, by reason."""

  def __init__(self):
    self._files = collections.Counter()
    self._folders = collections.defaultdict(list)

  def add_file(self, name: str, reason: str = '') -> None:
    """Counts a file by reason: hidden, the given one, or else its extension."""
    extension = os.path.splitext(name)[1].lower()
    if name.startswith('.'):
      reason = 'hidden'
    elif not reason:
      reason = as_text(extension) or 'no extension'
    self._files[reason] += 1

  def add_folder(self, folder: epath.Path, reason: str) -> None:
    """Records a folder."""
    self._folders[reason].append(os.fspath(folder))

  def update(self, other: Skipped) -> None:
    """Adds files and folders skipped elsewhere."""
    self._files.update(other._files)
    for reason, folders in other._folders.items():
      self._folders[reason] += folders

  def __bool__(self) -> bool:
    """Whether anything is skipped."""
    return bool(self._files or self._folders)

  def __str__(self) -> str:
    """Lists counts of files and names of folders by reason."""
    parts = [
      f'{count} {"file" if count == 1 else "files"}'
      f' ({printing.printable(reason)})'
      for reason, count in sorted(self._files.items())
    ]
    for reason, folders in sorted(self._folders.items()):
      listed = shortened.join(list(map(as_text, sorted(folders))), _MAX_LISTED)
      parts.append(
        f'{"folder" if len(folders) == 1 else "folders"} {listed} ({reason})'
      )
    return '; '.join(parts)


def find_images(folder: epath.Path, skipped: Skipped) -> list[str]:
  """Returns the image files at any depth, relative to the folder, in order.

  Image files have one of EXTENSIONS, in lower or upper case. Hidden files and
  folders are skipped. Links are followed, except to folders already searched
  and to folders that contain this one.

  Args:
    folder: a local or gs:// path.
    skipped: records what is skipped.

  Raises:
    OSError: if a folder cannot be read.
  """
  visited = set(_with_parents(folder))
  images = []
  folders, links = [(folder, '')], []
  while folders or links:
    # Links come last, so that images are listed below their real folder.
    current, prefix = folders.pop() if folders else links.pop(0)
    real_path = os.path.realpath(current)
    if prefix and real_path in visited:
      skipped.add_folder(current, 'link to a folder already searched')
      continue
    visited.add(real_path)
    for entry in sorted(current.iterdir()):
      if is_image(entry.name):
        images.append(prefix + entry.name)
      elif not entry.is_dir():
        skipped.add_file(entry.name)
      elif entry.name.startswith('.'):
        skipped.add_folder(entry, 'hidden')
      else:
        target = links if os.path.islink(entry) else folders
        target.append((entry, f'{prefix}{entry.name}/'))
  return sorted(images, key=lambda name: name.split('/'))


def subfolders(folder: epath.Path, skipped: Skipped) -> list[str]:
  """Returns the sorted names of subfolders; files are skipped.

  So are hidden folders and links to a folder that contains this one.
  """
  names = []
  for entry in folder.iterdir():
    if is_image(entry.name):
      skipped.add_file(entry.name, 'outside class folders')
    elif not entry.is_dir():
      skipped.add_file(entry.name)
    elif entry.name.startswith('.'):
      skipped.add_folder(entry, 'hidden')
    elif os.path.islink(entry) and (
      os.path.realpath(entry) in _with_parents(folder)
    ):
      skipped.add_folder(entry, 'link to a folder that contains it')
    else:
      names.append(entry.name)
  return sorted(names)


def is_image(name: str) -> bool:
  """Returns whether a file is an image according to its name."""
  return name.lower().endswith(EXTENSIONS) and not name.startswith('.')


def _with_parents(folder: epath.Path) -> Iterator[str]:
  """Yields the real path of a folder and of all folders that contain it."""
  path = os.path.realpath(folder)
  while True:
    yield path
    parent = os.path.dirname(path)
    if parent == path:
      return
    path = parent
