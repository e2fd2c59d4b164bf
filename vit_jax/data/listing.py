"""Lists image files in a folder and its subfolders, and what is skipped."""

from __future__ import annotations

import collections
from collections.abc import Iterator
import dataclasses
import itertools
import os

from etils import epath

from vit_jax import printing
from vit_jax.checkpoints import regular_file
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


@dataclasses.dataclass(frozen=True)
class Found:
  """Image files that were found in a folder.

  Attributes:
    names: paths relative to the folder, in order.
    special: those that are FIFOs, sockets or devices.
  """

  names: list[str]
  special: frozenset[str]


def find_images(folder: epath.Path, skipped: Skipped) -> Found:
  """Returns the image files at any depth, without opening any.

  Image files have one of EXTENSIONS, in lower or upper case. Hidden files and
  folders are skipped. Links are followed, except to folders already searched
  and to folders that contain this one.

  Args:
    folder: a local or gs:// path.
    skipped: records what is skipped.

  Raises:
    OSError: if a folder cannot be read.
  """
  images, special = [], []
  for name, entry in _search(folder, skipped):
    images.append(name)
    if _is_special(entry):
      special.append(name)
  # By folder names first; without any, `replace` makes no copy.
  images.sort(key=lambda name: name.replace('/', '\0'))
  return Found(images, frozenset(special))


def count_images(folder: epath.Path, limit: int) -> int:
  """Counts the files of `find_images`, at most `limit` of them."""
  return sum(1 for _ in itertools.islice(_search(folder, Skipped()), limit))


def _search(
  folder: epath.Path, skipped: Skipped
) -> Iterator[tuple[str, os.DirEntry | epath.Path]]:
  """Yields the image files, by their path relative to the folder."""
  visited = set(_with_parents(folder))
  folders, links = [(folder, '')], []
  while folders or links:
    # Links come last, so that images are listed below their real folder.
    current, prefix = folders.pop() if folders else links.pop(0)
    real_path = os.path.realpath(current)
    if prefix and real_path in visited:
      skipped.add_folder(current, 'link to a folder already searched')
      continue
    visited.add(real_path)
    subfolders_here = []
    for entry in _entries(current):
      name = entry.name
      if is_image(name):
        yield prefix + name, entry
      elif not _is_folder(entry):
        skipped.add_file(name)
      elif name.startswith('.'):
        skipped.add_folder(current / name, 'hidden')
      else:
        subfolders_here.append((name, _is_link(entry)))
    for name, is_link in sorted(subfolders_here):
      target = links if is_link else folders
      target.append((current / name, f'{prefix}{name}/'))


def _entries(folder: epath.Path) -> Iterator[os.DirEntry | epath.Path]:
  """Yields what is in a folder, in any order.

  Entries of local folders know their type, which saves a request per file.
  """
  if '://' in os.fspath(folder):
    yield from folder.iterdir()
    return
  with os.scandir(folder) as entries:
    yield from entries


def _is_folder(entry: os.DirEntry | epath.Path) -> bool:
  try:
    return entry.is_dir()
  except OSError:  # A link to itself.
    return False


def _is_link(entry: os.DirEntry | epath.Path) -> bool:
  return isinstance(entry, os.DirEntry) and entry.is_symlink()


def _is_special(entry: os.DirEntry | epath.Path) -> bool:
  if not isinstance(entry, os.DirEntry):
    return False
  # Only links and special files need more than the type in the folder.
  is_plain = entry.is_file(follow_symlinks=False)
  return not is_plain and regular_file.is_special(entry.path)


def subfolders(folder: epath.Path, skipped: Skipped) -> list[str]:
  """Returns the sorted names of subfolders; files are skipped.

  So are hidden folders and links to a folder that contains this one.
  """
  names = []
  for entry in _entries(folder):
    if is_image(entry.name):
      skipped.add_file(entry.name, 'outside class folders')
    elif not _is_folder(entry):
      skipped.add_file(entry.name)
    elif entry.name.startswith('.'):
      skipped.add_folder(folder / entry.name, 'hidden')
    elif _is_link(entry) and (os.path.realpath(entry) in _with_parents(folder)):
      skipped.add_folder(
        folder / entry.name, 'link to a folder that contains it'
      )
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
