"""Atomic file writes."""

from collections.abc import Iterator
import contextlib
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
  """Same as `write_bytes`, but any error is raised unchanged."""
  with renamed(path, suffix) as temporary:
    temporary.write_bytes(data)


@contextlib.contextmanager
def renamed(path: epath.Path, suffix: str = '.tmp') -> Iterator[epath.Path]:
  """Yields a temporary file, and renames it at the end of the context.

  Thus a failed write leaves the previous file intact. Creates missing folders.
  The temporary name ends with `suffix`, which must be unique if several
  processes may write the file at the same time.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f'{path.name}{suffix}'
  try:
    yield temporary
    temporary.replace(path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
