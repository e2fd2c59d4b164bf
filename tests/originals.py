"""Original data that is given by its items, and a task of a worker."""

from collections.abc import Iterator
import dataclasses
import io
import os
import signal

import numpy as np
from PIL import Image

from vit_jax.data.preparation.original import Item, Original, Unit


@dataclasses.dataclass(frozen=True)
class GivenUnit(Unit):
  given: tuple[Item, ...]

  def items(self) -> Iterator[Item]:
    yield from self.given


class GivenOriginal(Original):
  def __init__(self, *units: list[Item]):
    self._units = [GivenUnit(tuple(items)) for items in units]

  def units(self):
    yield from self._units


def image_file(seed, kind='PNG', **options):
  """Returns an image file of random pixels."""
  pixels = np.random.RandomState(seed).randint(0, 256, (9, 7, 3), np.uint8)
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, kind, **options)
  return file.getvalue()


def kill_itself(number):
  """Returns a number, unless it is 3."""
  if number == 3:
    os.kill(os.getpid(), signal.SIGKILL)
  return number
