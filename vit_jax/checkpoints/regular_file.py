"""Distinguishes files from pipes and devices, which may block or never end."""

import os
import stat

from etils import epath


def is_special(path: os.PathLike[str] | str | bytes) -> bool:
  """Returns whether a local path is a named pipe, a device or a socket."""
  try:
    mode = os.stat(path).st_mode
  except (OSError, ValueError):  # Missing, or a URL.
    return False
  return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def read_text(path: epath.Path) -> str:
  """Returns the text of a file.

  Raises:
    ValueError: if it is not UTF-8, or not a file that `check` accepts.
  """
  check(path)
  try:
    return path.read_text()
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is not text in UTF-8 ({error}).') from error


def check(path: os.PathLike[str] | str) -> None:
  """Checks that a path is not a named pipe, a device or a socket.

  Raises:
    ValueError: if it is one.
  """
  if is_special(path):
    raise ValueError(
      f'{path} is a named pipe, device or socket; give the path of a regular'
      ' file.'
    )
