"""Measures how long `vit_jax.load` and calls of the loaded model take.

  python benchmarks/load.py CHECKPOINT PHOTOS

CHECKPOINT is a path or a name; PHOTOS is a folder of image files. Computes the
features of one photo and of eight: the first call also imports TensorFlow and
compiles the model for one image, the first call with eight compiles it for
these.
Prints seconds, for later calls their median and range.
"""

import argparse
import functools
import statistics
import time

import vit_jax
from vit_jax.data import photos

REPETITIONS = 7


def seconds(function) -> float:
  """Returns how long a call takes."""
  begin = time.perf_counter()
  function()
  return time.perf_counter() - begin


def main() -> None:
  """Prints one line per measurement."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('checkpoint')
  parser.add_argument('photos')
  options = parser.parse_args()
  begin = time.perf_counter()
  model = vit_jax.load(options.checkpoint)
  print(f'load: {time.perf_counter() - begin:.2f}')
  paths = photos.find([options.photos])
  for number in (1, 8):
    call = functools.partial(model.features, paths[:number])
    print(f'first call, {number} images: {seconds(call):.2f}')
    later = [seconds(call) for _ in range(REPETITIONS)]
    print(
      f'later calls, {number} images: {statistics.median(later):.3f}'
      f' ({min(later):.3f} to {max(later):.3f})'
    )


if __name__ == '__main__':
  main()
