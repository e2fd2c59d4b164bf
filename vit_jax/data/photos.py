"""Finds and decodes single image files, and turns them upright."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import io

from etils import epath
from jaxtyping import Float, UInt8
import numpy as np
from PIL import ExifTags, Image, ImageOps

from vit_jax.data import decode, folder
from vit_jax.data.lazy_tensorflow import tf

# Pillow only reads headers here, so photos may have any size.
Image.MAX_IMAGE_PIXELS = None


def find(paths: Iterable[str]) -> list[str]:
  """Returns the given image files, and those in given folders at any depth.

  In folders, hidden files and files with extensions other than
  `folder.EXTENSIONS` are ignored, and names are sorted.

  Raises:
    ValueError: if a path does not exist, or a folder contains no images.
  """
  files = []
  for name in paths:
    path = epath.Path(name).expanduser()
    if not path.exists():
      raise ValueError(
        f'file or folder {name!r} does not exist; check the path.'
      )
    images = list(_walk(path)) if path.is_dir() else [path]
    if not images:
      raise ValueError(
        f'folder {name!r} contains no images; expected files that end in'
        f' {", ".join(folder.EXTENSIONS)}.'
      )
    files += map(str, images)
  return files


def _walk(path: epath.Path) -> Iterator[epath.Path]:
  for entry in sorted(path.iterdir()):
    if entry.name.startswith('.'):
      continue
    if entry.is_dir():
      yield from _walk(entry)
    elif entry.name.lower().endswith(folder.EXTENSIONS):
      yield entry


def decode_upright(file: bytes) -> UInt8[np.ndarray, 'h w 3']:
  """Decodes an image file and applies its EXIF orientation.

  Files without one yield the same pixels as in training and evaluation.

  Raises:
    tf.errors.OpError: if the file cannot be decoded.
  """
  image = Image.fromarray(decode.to_rgb(tf.constant(file)).numpy())
  image.getexif()[ExifTags.Base.Orientation] = _orientation(file)
  return np.asarray(ImageOps.exif_transpose(image))


def read(
  path: str, transform: Callable[[tf.Tensor], tf.Tensor]
) -> Float[np.ndarray, 'h w 3']:
  """Reads an image file, upright and preprocessed for the model.

  Args:
    path: a local or gs:// path.
    transform: function from a raw image to an image, see `preprocess`.

  Raises:
    ValueError: if the file cannot be read or decoded, with the reason.
  """
  try:
    return transform(
      tf.constant(decode_upright(epath.Path(path).read_bytes()))
    ).numpy()
  except tf.errors.OpError as error:
    raise ValueError(error.message.splitlines()[0]) from error
  except OSError as error:
    raise ValueError(str(error)) from error


def _orientation(file: bytes) -> int:
  """Returns EXIF tag 0x0112, 1 to 8; 1 is upright."""
  try:
    with Image.open(io.BytesIO(file)) as image:
      return image.getexif().get(ExifTags.Base.Orientation, 1)
  except (OSError, SyntaxError, ValueError):
    return 1  # Pillow cannot parse the file.
