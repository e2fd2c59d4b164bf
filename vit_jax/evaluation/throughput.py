"""How fast a compiled function is, and how large its batches may be."""

from collections.abc import Callable
import time
from typing import Any

import jax

FEWEST_TIMINGS = 3


def largest_batch(fits: Callable[[int], bool], most: int) -> int:
  """The largest batch that fits, to an eighth of it; 0 if none does.

  Args:
    fits: whether a batch does.
    most: the largest to try.
  """
  low, high = 0, 1
  while fits(high):
    if high == most:
      return most
    low, high = high, min(2 * high, most)
  while high - low > max(low // 8, 1):
    middle = (low + high) // 2
    if fits(middle):
      low = middle
    else:
      high = middle
  return low


def needed_bytes(compiled: jax.stages.Compiled) -> int:
  """Of what a function is given, returns, and makes in between, together."""
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
  )


def timings(
  compiled: Callable[..., Any], *args: Any, repetitions: int, seconds: float
) -> list[float]:
  """Seconds of calls, after one that does not count.

  Args:
    compiled: what is called.
    *args: of it.
    repetitions: how many calls.
    seconds: after which FEWEST_TIMINGS suffice.
  """
  jax.block_until_ready(compiled(*args))
  found = []
  begin = time.perf_counter()
  while len(found) < repetitions:
    late = time.perf_counter() - begin > seconds
    if late and len(found) >= FEWEST_TIMINGS:
      break
    start = time.perf_counter()
    jax.block_until_ready(compiled(*args))
    found.append(time.perf_counter() - start)
  return found
