"""The files of a dataset that is stored in shards, and their splits."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import itertools
import os
import re

from etils import epath

from vit_jax.checkpoints import location
from vit_jax.data import folder

_WILDCARD = re.compile(r'[*?\[]')
_BRACES = re.compile(r'\{(\d+\.\.\d+|[^{}]*,[^{}]*)\}')
# The Hub's names of shards, and the words in other names.
_NUMBERED = re.compile(r'(\w+)-\d{4,6}-of-\d{4,6}\b')
_WORD = re.compile(r'[^\W\d_]+')
_SPLIT_OF = {
  word: split for split, words in folder.SPLITS.items() for word in words
}


@dataclasses.dataclass(frozen=True)
class ShardFile:
  """A file of a dataset.

  Attributes:
    path: its path.
    split: its split; see `split_of`.
    size: number of bytes.
  """

  path: str
  split: str
  size: int


def find(path: str, extensions: tuple[str, ...]) -> list[ShardFile]:
  """Finds the files of a dataset.

  Args:
    path: a file; a folder, for all files in it and its subfolders; a pattern
      such as `train-*.tar`; or braces with a range or a list, such as
      `train-{0000..0146}.tar` and `{train,val}.tar`.
    extensions: endings of file names in folders, in lower case.

  Returns:
    The files, sorted by name.

  Raises:
    ValueError: if there are no such files, or one of a range is missing.
  """
  found = []
  for expanded in _expand_braces(path):
    root = location.expand(expanded)
    if root.is_dir():
      found += _in_folder(root, extensions)
    elif root.exists():
      found.append(root)
    elif _WILDCARD.search(expanded):
      parts = root.parts
      first = next(i for i, part in enumerate(parts) if _WILDCARD.search(part))
      found += epath.Path(*parts[:first]).glob('/'.join(parts[first:]))
    else:
      raise ValueError(
        f'{expanded!r} does not exist; expected a file, a folder, a pattern'
        f' such as train-*{extensions[0]}, or a range such as'
        f' train-{{0000..0146}}{extensions[0]}.'
      )
  if not found:
    raise ValueError(
      f'{path!r} contains no files that end in {" or ".join(extensions)}.'
    )
  # Folders that all files have in common say nothing about splits.
  fixed = _WILDCARD.split(path.partition('{')[0])[0]
  root = location.expand(fixed)
  depth = len(root.parts if root.is_dir() else root.parent.parts)
  return [
    ShardFile(os.fspath(file), split_of(file.parts[depth:]), file.stat().length)
    for file in sorted(set(found), key=os.fspath)
  ]


def split_of(parts: Sequence[str]) -> str:
  """Returns the split that the name of a file or its folders contain.

  In the Hub's names, such as `test-00000-of-00005.parquet`, this is the part
  before the numbers; in others, a word such as `training` or `valid`. If there
  is none, it is `train`.

  Args:
    parts: names of folders, from the outermost, and of the file.
  """
  for name in reversed(parts):
    if match := _NUMBERED.match(name):
      return _SPLIT_OF.get(match[1].lower(), match[1])
    for word in _WORD.findall(name):
      if word.lower() in _SPLIT_OF:
        return _SPLIT_OF[word.lower()]
  return 'train'


def _expand_braces(path: str) -> list[str]:
  match = _BRACES.search(path)
  if not match:
    return [path]
  first, dots, last = match[1].partition('..')
  if dots:
    width = len(first)
    values = [f'{i:0{width}}' for i in range(int(first), int(last) + 1)]
  else:
    values = match[1].split(',')
  head, tail = path[: match.start()], path[match.end() :]
  return list(
    itertools.chain.from_iterable(
      _expand_braces(head + value + tail) for value in values
    )
  )


def _in_folder(root: epath.Path, extensions: tuple[str, ...]) -> list:
  files = []
  for entry in root.iterdir():
    if entry.name.startswith('.'):
      continue
    if entry.name.lower().endswith(extensions):
      files.append(entry)
    elif entry.is_dir():
      files += _in_folder(entry, extensions)
  return files
