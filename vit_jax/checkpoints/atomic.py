"""Atomic file writes."""

import functools

from etils import epath

from vit_jax.checkpoints import backlog


def write_bytes(path: epath.Path, data: bytes) -> None:
  """Writes a file atomically; creates missing folders.

  Raises:
    backlog.WriteError: if it fails, except in a run that writes it later.
  """
  attempt = functools.partial(replace, path, data)
  backlog.write(path, len(data), attempt)


def replace(path: epath.Path, data: bytes, suffix: str = '.tmp') -> None:
  """Same as `write_bytes`, but any error is raised unchanged.

  The data goes to a temporary file that is then renamed, so a failed write
  leaves the previous file intact. Its name is that of the file and `suffix`,
  which must be unique if several processes may write at the same time.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f'{path.name}{suffix}'
  try:
    temporary.write_bytes(data)
    temporary.replace(path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
