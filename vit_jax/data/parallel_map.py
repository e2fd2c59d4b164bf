"""The parallel part of every input pipeline, without TensorFlow's autotuning.

Autotuning finds the number of threads while a pipeline runs, in a thread that
pauses for 10 ms, 20 ms, and so on up to a minute. Closing an iterator cancels
that thread, but TensorFlow wakes it before marking it as cancelled: if it looks
too early, it goes back to sleep, and closing waits until its pause is over. An
evaluation of 12 seconds would then take 8 seconds longer, and the end of a
training run up to a minute. With as many parallel calls as cores from the
start, there is nothing to tune.
"""

from __future__ import annotations

from collections.abc import Callable
import os
from typing import Any

from vit_jax.data.lazy_tensorflow import tf


def parallel_map(
  records: tf.data.Dataset, function: Callable[..., Any]
) -> tf.data.Dataset:
  """Maps records in their order, as many at a time as there are cores."""
  options = tf.data.Options()
  options.autotune.enabled = False  # In every dataset built on the result, too.
  return records.map(
    function, num_parallel_calls=os.cpu_count(), deterministic=True
  ).with_options(options)
