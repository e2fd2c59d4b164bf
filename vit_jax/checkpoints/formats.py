"""Weight files of every supported format, told apart by their ending."""

import os
from typing import Any

from etils import epath

from vit_jax.checkpoints import npz

READERS = {'.npz': npz.load}
WRITERS = {'.npz': npz.save}


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads a file into a nested dict of arrays under this project's names.

  Raises:
    ValueError: if no reader is known for the ending, or the file is missing or
      damaged.
  """
  return _by_ending(READERS, path)(path)


def export(params: dict[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes a parameter tree in the format that the ending of `path` asks for.

  Raises:
    ValueError: if no writer is known for the ending.
  """
  _by_ending(WRITERS, path)(params, path)


def _by_ending(functions, path):
  ending = epath.Path(path).suffix
  if ending not in functions:
    raise ValueError(
      f'{path}: the ending of a weight file tells its format, and {ending!r} is'
      f' not known; known endings: {", ".join(functions)}.'
    )
  return functions[ending]
