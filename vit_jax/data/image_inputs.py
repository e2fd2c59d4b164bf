"""Images that users give to a model in Python, as it takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import os
from typing import Any

import jax.numpy as jnp
from jaxtyping import Float, Num
import numpy as np
from PIL import Image

from vit_jax.checkpoints import location
from vit_jax.data import decode, photos, pillow_pixels

# A path of an image file, an image, or its pixels (h, w, c).
OneImage = str | os.PathLike[str] | Image.Image | Num[np.ndarray, 'h w c']
Images = OneImage | Sequence[OneImage] | Num[np.ndarray, 'n h w c']

_TOLERANCE = 1e-3  # Of the range of floats.


def as_list(images: Images) -> list[OneImage]:
  """Returns one or several images as a list.

  Raises:
    ValueError: if there are none, or they are not images.
  """
  if isinstance(images, (str, os.PathLike, Image.Image)):
    return [images]
  if hasattr(images, 'ndim'):
    array = np.asarray(images)
    listed = list(array) if array.ndim == 4 else [array]
  elif isinstance(images, (bytes, Mapping)) or not hasattr(images, '__iter__'):
    listed = [_as_array(images)]  # Raises an error.
  else:
    listed = list(images)
  if not listed:
    raise ValueError('there are no images; give at least one.')
  return listed


def preprocess(
  image: OneImage,
  *,
  transform: Callable,
  image_size: tuple[int, int],
  decoder: decode.Decoder,
) -> Float[np.ndarray, 'h w c']:
  """Returns an image in [-1, 1].

  Args:
    image: a path, an image, pixels, or floats that are preprocessed.
    transform: from `preprocess.eval_transform`.
    image_size: height and width of its results.
    decoder: the decoder of the transform.

  Raises:
    ValueError: if it cannot be read, or is not an image that the model takes.
  """
  if isinstance(image, (str, os.PathLike)):
    path = os.fspath(location.expand(image))
    try:
      return photos.read(path, transform)
    except ValueError as error:
      raise ValueError(
        f'{path!r} cannot be read as an image: {error}'
      ) from error
  if isinstance(image, Image.Image):
    colours = max(decoder.channels, 3)
    pixels = pillow_pixels.of_image(image, colours, decoder.bits)
  elif jnp.issubdtype((pixels := _as_array(image)).dtype, jnp.floating):
    _check_preprocessed(pixels, (*image_size, decoder.channels))
    return pixels.astype(np.float32)
  _check_pixels(pixels)
  return photos.convert(pixels, transform)


def _as_array(image: Any) -> np.ndarray:
  """Returns an image (h, w, c) as an array; that of (h, w) gets a channel."""
  if not hasattr(image, 'ndim'):
    raise ValueError(
      f'an object of type {type(image).__name__} is not an image; give a path,'
      ' a PIL image or an array (h, w, c).'
    )
  array = np.asarray(image)
  return array[..., None] if array.ndim == 2 else array


def _check_preprocessed(
  image: Num[np.ndarray, ...], shape: tuple[int, int, int]
) -> None:
  """Raises a ValueError if floats are not of the model's shape and range."""
  given = f'floats of shape {image.shape}'
  if image.shape != shape:
    channels_first = image.shape == (shape[2], *shape[:2])
    raise ValueError(
      f'{given}, but the model takes floats in [-1, 1] of shape {shape}; '
      + (
        'move the channels to the end with np.moveaxis(image, 0, -1).'
        if channels_first
        else 'give pixels of other sizes as uint8, to be resized and cropped.'
      )
    )
  low, high = image.min(), image.max()
  if not (low >= -1 - _TOLERANCE and high <= 1 + _TOLERANCE):
    raise ValueError(
      f'{given} from {low:g} to {high:g}, but the model takes floats in'
      ' [-1, 1]; give pixels in [0, 255] as uint8, or as pixels / 127.5 - 1.'
    )


def _check_pixels(image: np.ndarray) -> None:
  """Raises a ValueError if an array does not have the pixels of an image."""
  is_image = image.ndim == 3 and image.size and 1 <= image.shape[-1] <= 4
  if image.dtype in (np.uint8, np.uint16) and is_image:
    return
  channels_first = image.ndim == 3 and 1 <= image.shape[0] <= 4
  raise ValueError(
    f'an array of {image.dtype} of shape {image.shape} is not an image;'
    ' expected uint8 or uint16 of shape (h, w, c) with 1 to 4 channels, or'
    ' floats in [-1, 1] of the size of the model.'
    + ' Move the channels to the end with np.moveaxis(image, 0, -1).'
    * channels_first
  )
