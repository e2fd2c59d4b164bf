"""Batches that fit, and timings."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax.evaluation import throughput


@pytest.mark.parametrize(
  ('memory', 'most', 'expected', 'tried'),
  [
    # Doubled to 128, then halved until the gap is at most an eighth.
    (100, 4096, 96, [1, 2, 4, 8, 16, 32, 64, 128, 96, 112, 104]),
    (5, 4096, 5, [1, 2, 4, 8, 6, 5]),
    (0, 4096, 0, [1]),
    (100, 6, 6, [1, 2, 4, 6]),
  ],
)
def test_largest_batch(memory, most, expected, tried):
  asked = []

  def fits(batch):
    asked.append(batch)
    return batch <= memory

  assert throughput.largest_batch(fits, most) == expected
  assert asked == tried


def test_needed_bytes():
  x = jnp.zeros((10, 20))
  compiled = jax.jit(lambda x: x + 1).lower(x).compile()
  assert throughput.needed_bytes(compiled) == 2 * 10 * 20 * 4


def test_slow_calls_are_timed_less_often():
  calls = []
  quick = throughput.timings(calls.append, 1, repetitions=5, seconds=60)
  assert len(quick) == 5
  assert len(calls) == 6  # One to warm up.
  assert min(quick) > 0
  late = throughput.timings(calls.append, 1, repetitions=5, seconds=0)
  assert len(late) == throughput.MIN_TIMINGS
