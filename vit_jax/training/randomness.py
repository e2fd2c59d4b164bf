"""Randomness as a function of (seed, stream name, step), never carried.

A run that resumes at a step draws what it would have drawn without the stop.
"""

import zlib

import jax
from jaxtyping import Array, Int, Key, UInt32


def stream_key(
  seed: int | UInt32[Array, ''],
  stream: str,
  step: int | Int[Array, ''] = 0,
) -> Key[Array, '']:
  """The key of one step of one named stream.

  Args:
    seed: the run's seed, traced or not.
    stream: what the draws are for, such as 'dropout'; other names give
      independent draws.
    step: the training step, traced or not.
  """
  return jax.random.fold_in(branch(jax.random.key(seed), stream), step)


def branch(key: Key[Array, ''], stream: str) -> Key[Array, '']:
  """The key of a named stream that grows from another key."""
  return jax.random.fold_in(key, zlib.crc32(stream.encode()))
