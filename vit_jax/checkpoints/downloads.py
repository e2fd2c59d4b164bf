"""A local cache of public files on Google Cloud Storage."""

import http.client
import logging
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
import uuid

from etils import epath

from vit_jax.checkpoints import location

_log = logging.getLogger(__name__)

_CACHE = 'VIT_JAX_CACHE'  # An environment variable.
_TIMEOUT = 10  # Seconds without any data.
_CHUNK_BYTES = 1 << 20


def url(file: str) -> str:
  """Returns the public URL of a file, given as BUCKET/PATH."""
  return f'{location.GOOGLE_CLOUD}/{urllib.parse.quote(file)}'


def fetch(file: str) -> epath.Path:
  """Returns the local copy of a public file; downloads it the first time.

  No credentials are needed. The environment variable VIT_JAX_CACHE sets the
  folder of the cache; the default is $XDG_CACHE_HOME/vit_jax, or if that is not
  set, ~/.cache/vit_jax. An interrupted download leaves nothing in the place of
  the file.

  Args:
    file: its bucket and its path there, BUCKET/PATH.

  Raises:
    ValueError: if it cannot be downloaded completely.
  """
  path = cache_folder() / file
  if path.exists():
    return path
  try:
    _download(url(file), path)
  except (OSError, http.client.HTTPException) as error:
    reason = getattr(error, 'reason', None) or error
    raise ValueError(
      f'{url(file)} cannot be downloaded to {path} ({reason}); check the name,'
      f' the network and the disk. {_CACHE} sets another folder.'
    ) from error
  return path


def cache_folder() -> epath.Path:
  """Returns the folder of all downloaded files."""
  if folder := os.environ.get(_CACHE):
    return location.expand(folder)
  home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return location.expand(home) / 'vit_jax'


def _download(source: str, path: epath.Path) -> None:
  # Several processes may download the same file.
  temporary = path.parent / f'{path.name}.{uuid.uuid4().hex}.tmp'
  try:
    with urllib.request.urlopen(source, timeout=_TIMEOUT) as response:
      if (size := response.length) is None:
        raise OSError('the server does not send the size of the file')
      _log.info('downloading %s, %d MiB, to %s', source, size >> 20, path)
      path.parent.mkdir(parents=True, exist_ok=True)
      with temporary.open('wb') as file:
        shutil.copyfileobj(response, file, _CHUNK_BYTES)
        received = file.tell()
    if received != size:
      raise OSError(
        f'the connection ended after {received:,} of {size:,} bytes'
      )
    temporary.replace(path)
  finally:
    if temporary.exists():
      temporary.unlink()
