"""Finds and reads single image files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import logging
import os

from etils import epath
from jaxtyping import Num
import numpy as np

from vit_jax import foreign_errors
from vit_jax.checkpoints import location, regular_file
from vit_jax.data import listing, table
from vit_jax.data.lazy_tensorflow import tf

_log = logging.getLogger(__name__)


def find(paths: Iterable[str]) -> list[str]:
  """Returns the given image files, and those in given folders at any depth.

  Skipped files and folders are logged; see `listing.find_images`.

  Args:
    paths: files, folders, and tables of images, `table:FILE`. A path that
      contains commas may be given as its comma-separated parts.

  Raises:
    ValueError: if a path does not exist, or a folder contains no images.
  """
  files = []
  remaining = list(paths)
  while remaining:
    if remaining[0].startswith(table.KIND):
      files += table.paths(remaining.pop(0).removeprefix(table.KIND))
      continue
    # The shortest path that exists.
    for count in range(1, len(remaining) + 1):
      path = location.expand(','.join(remaining[:count]))
      if path.exists():
        break
    else:
      raise ValueError(
        f'file or folder {remaining[0]!r} does not exist; check the path.'
      )
    del remaining[:count]
    if not path.is_dir():
      files.append(os.fspath(path))
      continue
    skipped = listing.Skipped()
    images = listing.find_images(path, skipped).names
    if not images:
      raise ValueError(
        f'folder {str(path)!r} contains no images; expected files that end in'
        f' {", ".join(listing.EXTENSIONS)}.'
        + (f' It contains {skipped}.' if skipped else '')
      )
    if skipped:
      _log.info('%s: skipped %s', path, skipped)
    files += [os.fspath(path / name) for name in images]
  return files


def read(
  path: str, transform: Callable[[tf.Tensor], tf.Tensor]
) -> Num[np.ndarray, 'h w c']:
  """Reads an image file and applies a transform.

  Args:
    path: a local or gs:// path.
    transform: function from the encoded file (scalar string) to an image, such
      as `decode.to_rgb` or the result of `preprocess.eval_transform`.

  Raises:
    ValueError: if the file cannot be read or decoded, with the reason.
  """
  if regular_file.is_special(path):
    raise ValueError('it is a FIFO, a socket or a device')
  try:
    file = epath.Path(path).read_bytes()
  except OSError as error:
    raise ValueError(str(error)) from error
  return convert(file, transform)


def convert(
  raw: bytes | Num[np.ndarray, 'h w c'],
  transform: Callable[[tf.Tensor], tf.Tensor],
) -> Num[np.ndarray, 'h w c']:
  """Applies a transform to an encoded file or to pixels.

  Raises:
    ValueError: if the transform fails, with the reason.
  """
  try:
    return transform(tf.constant(raw)).numpy()
  except tf.errors.OpError as error:
    if foreign_errors.is_out_of_memory(error):
      raise
    raise ValueError(foreign_errors.message(error)) from error
