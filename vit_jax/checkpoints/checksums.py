"""Checksums of the files of a checkpoint.

Orbax detects truncated array files but not changed bytes, so every checkpoint
carries its own manifest: JSON, `{"files": {PATH: {"size": bytes, "crc32":
number}}}`, with paths relative to the checkpoint folder. It covers all files in
subfolders, which hold the arrays and their metadata. Two more files are written
last, beside the subfolders: an empty commit marker, and JSON, which does not
parse if truncated.
"""

from collections.abc import Iterator
import json
import zlib

from etils import epath

from vit_jax.checkpoints import regular_file

MANIFEST = 'checksums.json'
_STEP_METADATA = '_CHECKPOINT_METADATA'  # Timestamps and item formats, in JSON.
_CHUNK_BYTES = 1 << 24


def write_manifest(folder: epath.Path) -> None:
  """Writes the manifest of a checkpoint whose subfolders are complete."""
  files = {
    str(path.relative_to(folder)): {
      'size': path.stat().length,
      'crc32': _crc32(path),
    }
    for item in folder.iterdir()
    if item.is_dir()
    for path in _files(item)
  }
  (folder / MANIFEST).write_text(json.dumps({'files': files}, indent=1))


def find_damage(folder: epath.Path) -> str | None:
  """Returns the first problem of a checkpoint; None if it is intact."""
  for path in (folder / MANIFEST, folder / _STEP_METADATA):
    if regular_file.is_special(path):
      return f'{path.name} is not a file'
  try:
    files = json.loads((folder / MANIFEST).read_bytes())['files']
    for name, expected in files.items():
      path = folder / name
      if not path.is_file() or regular_file.is_special(path):
        return f'{name} is missing'
      size = path.stat().length
      if size != expected['size']:
        return f'{name} has {size} bytes instead of {expected["size"]}'
      if _crc32(path) != expected['crc32']:
        return f'the bytes of {name} have changed (crc32 differs)'
  except FileNotFoundError:
    return f'{MANIFEST} is missing'
  except (ValueError, KeyError, TypeError, AttributeError):
    return f'{MANIFEST} cannot be read'
  try:
    json.loads((folder / _STEP_METADATA).read_bytes())
  except FileNotFoundError:
    return f'{_STEP_METADATA} is missing'
  except ValueError:
    return f'{_STEP_METADATA} cannot be read'
  return None


def _files(folder: epath.Path) -> Iterator[epath.Path]:
  for path in sorted(folder.iterdir()):
    if path.is_dir():
      yield from _files(path)
    else:
      yield path


def _crc32(path: epath.Path) -> int:
  crc = 0
  with path.open('rb') as file:
    while chunk := file.read(_CHUNK_BYTES):
      crc = zlib.crc32(chunk, crc)
  return crc
