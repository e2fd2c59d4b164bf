"""Speed of a compiled function, and the largest batch that fits in memory."""

from collections.abc import Callable
import time
from typing import Any

import jax

MIN_TIMINGS = 3


def largest_batch(fits: Callable[[int], bool], limit: int) -> int:
  """Returns the largest batch that `fits`, to within an eighth; 0 if none does.

  Tries no batch sizes above the limit.
  """
  low, high = 0, 1
  while fits(high):
    if high == limit:
      return limit
    low, high = high, min(2 * high, limit)
  while high - low > max(low // 8, 1):
    middle = (low + high) // 2
    if fits(middle):
      low = middle
    else:
      high = middle
  return low


def needed_bytes(compiled: jax.stages.Compiled) -> int:
  """Returns the bytes of a function's arguments, outputs and temporaries."""
  memory = compiled.memory_analysis()
  return (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    + memory.temp_size_in_bytes
  )


def timings(
  compiled: Callable[..., Any], *args: Any, repetitions: int, seconds: float
) -> list[float]:
  """Returns the durations of several calls in seconds, after one untimed call.

  Times `repetitions` calls, or fewer if they take longer than `seconds`, but at
  least MIN_TIMINGS.
  """
  jax.block_until_ready(compiled(*args))
  durations = []
  begin = time.perf_counter()
  while len(durations) < repetitions:
    late = time.perf_counter() - begin > seconds
    if late and len(durations) >= MIN_TIMINGS:
      break
    start = time.perf_counter()
    jax.block_until_ready(compiled(*args))
    durations.append(time.perf_counter() - start)
  return durations
