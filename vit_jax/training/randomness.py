"""Randomness as a function of (seed, stream, step); no generator state is kept.

A resumed run therefore makes the same draws as an uninterrupted one.
"""

import zlib

import jax
from jaxtyping import Array, Int, Key, UInt32


def stream_key(
  seed: int | UInt32[Array, ''],
  stream: str,
  step: int | Int[Array, ''] = 0,
) -> Key[Array, '']:
  """Returns the key of a named stream at a step.

  Args:
    seed: the run's seed, traced or not.
    stream: purpose of the draws, such as 'dropout'; streams with different
      names are independent.
    step: the training step, traced or not.
  """
  return jax.random.fold_in(branch(jax.random.key(seed), stream), step)


def branch(key: Key[Array, ''], stream: str) -> Key[Array, '']:
  """Derives the key of a named stream from another key."""
  return jax.random.fold_in(key, zlib.crc32(stream.encode()))
