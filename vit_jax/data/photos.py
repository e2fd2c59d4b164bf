"""Finds and reads single image files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import logging
import os

from etils import epath
from jaxtyping import Float
import numpy as np

from vit_jax.checkpoints import location
from vit_jax.data import listing
from vit_jax.data.lazy_tensorflow import tf

_log = logging.getLogger(__name__)


def find(paths: Iterable[str]) -> list[str]:
  """Returns the given image files, and those in given folders at any depth.

  What is left out of folders is logged, see `listing.find_images`.

  Args:
    paths: files and folders. A name that contains commas may be given as the
      parts between them.

  Raises:
    ValueError: if a path does not exist, or a folder contains no images.
  """
  files = []
  remaining = list(paths)
  while remaining:
    # The shortest name that exists.
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
    left_out = listing.LeftOut()
    images = listing.find_images(path, left_out)
    if not images:
      raise ValueError(
        f'folder {str(path)!r} contains no images; expected files that end in'
        f' {", ".join(listing.EXTENSIONS)}.'
        + (f' It contains {left_out}.' if left_out else '')
      )
    if left_out:
      _log.info('%s: left out %s', path, left_out)
    files += [os.fspath(path / name) for name in images]
  return files


def read(
  path: str, transform: Callable[[tf.Tensor], tf.Tensor]
) -> Float[np.ndarray, 'h w 3']:
  """Reads an image file as evaluation does.

  Args:
    path: a local or gs:// path.
    transform: function from a raw image to an image, see `preprocess` and
      `decode.to_rgb`.

  Raises:
    ValueError: if the file cannot be read or decoded, with the reason.
  """
  try:
    return transform(tf.constant(epath.Path(path).read_bytes())).numpy()
  except tf.errors.OpError as error:
    raise ValueError(error.message.splitlines()[0]) from error
  except OSError as error:
    raise ValueError(str(error)) from error
