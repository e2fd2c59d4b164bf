"""Checkpoints by name, which stands for a path of weights anywhere.

A name is that of a published file (`published`) or of a repository of the
Hugging Face Hub (`hub`).
"""

import os

from etils import epath

from vit_jax.checkpoints import downloads, hub, location, published


def is_name(path: str | os.PathLike[str]) -> bool:
  """Returns whether this is a name, known or not, and not a path."""
  text = os.fspath(path)
  return published.is_name(text) or hub.is_name(text)


def describe(path: str) -> str:
  """Returns a path or a name, and for a published file its URL.

  Raises:
    ValueError: if it is an unknown name.
  """
  if published.is_name(path):
    return f'{path}, {downloads.url(published.find(path))}'
  if hub.is_name(path):
    hub.parse(path)
  return path


def locate(path: str | os.PathLike[str]) -> epath.Path:
  """Returns the path of weights, which are downloaded if they have a name.

  Raises:
    ValueError: if the name is unknown, the weights cannot be downloaded, or
      `location.expand` does not accept the path.
  """
  text = os.fspath(path)
  if published.is_name(text):
    return downloads.fetch(published.find(text))
  if hub.is_name(text):
    return hub.fetch(text)
  return location.expand(path)
