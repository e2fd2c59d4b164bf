"""Atomic file writes."""

from etils import epath


def write_bytes(path: epath.Path, data: bytes) -> None:
  """Writes a file atomically; creates missing folders.

  The data goes to a temporary file that is then renamed, so a failed write
  leaves the previous file intact.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f'{path.name}.tmp'
  try:
    temporary.write_bytes(data)
    temporary.replace(path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
