"""Image files in a folder and its subfolders, and what is left out of them."""

from __future__ import annotations

import collections
from collections.abc import Iterator
import os

from etils import epath

from vit_jax.data import shortened

EXTENSIONS = (
  '.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff',
)  # fmt: skip
_MAX_NAMED = 5  # Folders per reason that a text names.


def shown(path: str | bytes) -> str:
  r"""Returns a path as text; bytes that are not UTF-8 appear as `\xe9`."""
  return os.fsencode(path).decode(errors='backslashreplace')


class LeftOut:
  """Files and folders that are not listed, by reason."""

  def __init__(self):
    self._files = collections.Counter()
    self._folders = collections.defaultdict(list)

  def add_file(self, name: str, reason: str = '') -> None:
    """Counts a file; without a reason, its name is the reason."""
    extension = os.path.splitext(name)[1].lower()
    if name.startswith('.'):
      reason = 'hidden'
    elif not reason:
      reason = shown(extension) or 'no extension'
    self._files[reason] += 1

  def add_folder(self, folder: epath.Path, reason: str) -> None:
    """Records a folder."""
    self._folders[reason].append(os.fspath(folder))

  def update(self, other: LeftOut) -> None:
    """Adds what is left out elsewhere."""
    self._files.update(other._files)
    for reason, folders in other._folders.items():
      self._folders[reason] += folders

  def __bool__(self) -> bool:
    """Whether anything is left out."""
    return bool(self._files or self._folders)

  def __str__(self) -> str:
    """Counts of files and names of folders by reason; empty if none."""
    parts = [
      f'{count} {"file" if count == 1 else "files"} ({reason})'
      for reason, count in sorted(self._files.items())
    ]
    for reason, folders in sorted(self._folders.items()):
      named = shortened.join(list(map(shown, sorted(folders))), _MAX_NAMED)
      parts.append(
        f'{"folder" if len(folders) == 1 else "folders"} {named} ({reason})'
      )
    return '; '.join(parts)


def find_images(folder: epath.Path, left_out: LeftOut) -> list[str]:
  """Returns the image files at any depth, relative to the folder, in order.

  Image files have one of EXTENSIONS, in lower or upper case. Hidden files and
  folders are left out. Links are followed, but no folder is listed twice, nor a
  folder that contains this one.

  Args:
    folder: a local or gs:// path.
    left_out: collects what is left out.

  Raises:
    OSError: if a folder cannot be read.
  """
  listed = set(_with_parents(folder))
  images = []
  folders, links = [(folder, '')], []
  while folders or links:
    # Links come last, so that images below a real folder have its path.
    current, prefix = folders.pop() if folders else links.pop(0)
    real_path = os.path.realpath(current)
    if prefix and real_path in listed:
      left_out.add_folder(current, 'link to a folder that is listed already')
      continue
    listed.add(real_path)
    for entry in sorted(current.iterdir()):
      if is_image(entry.name):
        images.append(prefix + entry.name)
      elif not entry.is_dir():
        left_out.add_file(entry.name)
      elif entry.name.startswith('.'):
        left_out.add_folder(entry, 'hidden')
      else:
        target = links if os.path.islink(entry) else folders
        target.append((entry, f'{prefix}{entry.name}/'))
  return sorted(images, key=lambda name: name.split('/'))


def subfolders(folder: epath.Path, left_out: LeftOut) -> list[str]:
  """Returns the names of subfolders, sorted; the rest is left out.

  Hidden folders are left out, and links to a folder that contains this one.
  """
  names = []
  for entry in folder.iterdir():
    if is_image(entry.name):
      left_out.add_file(entry.name, 'outside class folders')
    elif not entry.is_dir():
      left_out.add_file(entry.name)
    elif entry.name.startswith('.'):
      left_out.add_folder(entry, 'hidden')
    elif os.path.islink(entry) and (
      os.path.realpath(entry) in _with_parents(folder)
    ):
      left_out.add_folder(entry, 'link to a folder that contains it')
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
