"""Single image files, as a camera or a user left them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import io

from etils import epath
from jaxtyping import Float, UInt8
import numpy as np
from PIL import ExifTags, Image, ImageOps

from vit_jax.data import decode, folder
from vit_jax.data.lazy_tensorflow import tf

# Pillow only reads headers here, and may do so in photos of any size.
Image.MAX_IMAGE_PIXELS = None


def find(paths: Iterable[str]) -> list[str]:
  """Image files: those named, and those in named folders at any depth.

  In folders, hidden files and files with other endings than `folder.ENDINGS`
  are left out, and names are sorted.

  Raises:
    ValueError: if a path is missing, or a folder holds no image.
  """
  found = []
  for name in paths:
    path = epath.Path(name).expanduser()
    if not path.exists():
      raise ValueError(f'there is no file or folder {name!r}.')
    images = list(_walk(path)) if path.is_dir() else [path]
    if not images:
      raise ValueError(
        f'the folder {name!r} holds no images; files have to end in'
        f' {", ".join(folder.ENDINGS)}.'
      )
    found += map(str, images)
  return found


def _walk(path: epath.Path) -> Iterator[epath.Path]:
  for entry in sorted(path.iterdir()):
    if entry.name.startswith('.'):
      continue
    if entry.is_dir():
      yield from _walk(entry)
    elif entry.name.lower().endswith(folder.ENDINGS):
      yield entry


def upright(file: bytes) -> UInt8[np.ndarray, 'h w 3']:
  """Decodes an image file and turns it as its EXIF orientation says.

  Files without one give the pixels that training and evaluation see.

  Raises:
    tf.errors.OpError: if it is no image that can be decoded.
  """
  image = Image.fromarray(decode.to_rgb(tf.constant(file)).numpy())
  image.getexif()[ExifTags.Base.Orientation] = _orientation(file)
  return np.asarray(ImageOps.exif_transpose(image))


def read(
  path: str, transform: Callable[[tf.Tensor], tf.Tensor]
) -> Float[np.ndarray, 'h w 3']:
  """An image file, upright and as the model wants it.

  Args:
    path: local or gs://.
    transform: from a raw image to an image, see `preprocess`.

  Raises:
    ValueError: if it cannot be read or decoded, saying why.
  """
  try:
    return transform(
      tf.constant(upright(epath.Path(path).read_bytes()))
    ).numpy()
  except tf.errors.OpError as error:
    raise ValueError(error.message.splitlines()[0]) from error
  except OSError as error:
    raise ValueError(str(error)) from error


def _orientation(file: bytes) -> int:
  """EXIF tag 0x0112: 1 to 8, where 1 is upright."""
  try:
    with Image.open(io.BytesIO(file)) as image:
      return image.getexif().get(ExifTags.Base.Orientation, 1)
  except (OSError, SyntaxError, ValueError):
    return 1  # What Pillow cannot parse tells no orientation.
