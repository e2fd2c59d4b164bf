"""Paths and URLs given by the user."""

import functools
import os
import re
import urllib.error
import urllib.request

from etils import epath

from vit_jax import printing

GOOGLE_CLOUD = 'https://storage.googleapis.com'
_TIMEOUT = 10  # Seconds.


def expand(path: str | os.PathLike[str]) -> epath.Path:
  """Returns a path given by the user, with ~ replaced by the home folder.

  Raises:
    ValueError: if it is a URL of an unsupported kind or cannot be reached, or
      cannot be the path of a file.
  """
  text = os.fspath(path)
  try:
    text.encode()
  except UnicodeEncodeError as error:
    shown = os.fsencode(text).decode(errors='backslashreplace')
    raise ValueError(
      f'path {printing.printable(shown)} is not UTF-8; rename this file or'
      ' folder, or give a folder that contains it.'
    ) from error
  if '://' not in text:
    return epath.Path(text).expanduser()
  if not re.match(r'gs://[^/]', text):
    raise ValueError(
      f'{text!r} is a URL of an unsupported kind; give gs://BUCKET/PATH or a'
      ' local path, which may be on a mounted network drive.'
    )
  # Without this check, its client libraries would retry for many minutes.
  if reason := unreachable(GOOGLE_CLOUD):
    raise ValueError(
      f'{text!r} cannot be reached ({reason}); check the network, or give a'
      ' local path.'
    )
  return epath.Path(text)


@functools.cache
def unreachable(url: str) -> str:
  """Returns why a server cannot be reached within seconds; '' if it can."""
  try:
    urllib.request.urlopen(url, timeout=_TIMEOUT).close()
  except urllib.error.HTTPError:
    pass  # Any answer shows that it can be reached.
  except OSError as error:
    return str(getattr(error, 'reason', error))
  return ''
