"""Files that appear whole or not at all."""

from etils import epath


def write_bytes(path: epath.Path, data: bytes) -> None:
  """Writes beside the place, then renames; missing folders are made.

  A write that fails leaves the file that was there before.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  unfinished = path.parent / f'{path.name}.tmp'
  try:
    unfinished.write_bytes(data)
    unfinished.replace(path)
  except BaseException:
    unfinished.unlink(missing_ok=True)
    raise
