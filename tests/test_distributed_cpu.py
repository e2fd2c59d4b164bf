"""Training on a CPU: a step's temporaries are not mapped anew every time."""

import os
import subprocess
import sys

import pytest

# Faults of a page a step, of 16,384 pages that its temporaries take.
COUNT = """
import resource
import jax, jax.numpy as jnp
from vit_jax.distributed import cpu

{prepare}

@jax.jit
def step(x):
  scores = x @ x.T  # 64 MiB.
  return scores @ x

x = jnp.ones((4096, 8)) / 64
for number in range(6):
  if number == 3:
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  step(x).block_until_ready()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin) // 3)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='settings are of glibc')
def test_memory_of_one_step_serves_the_next():
  # On one device, as on a host that has no other.
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  faults = {
    prepare: int(
      subprocess.run(
        [sys.executable, '-c', COUNT.format(prepare=prepare)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
      ).stdout
    )
    for prepare in ('', 'cpu.prepare()')
  }
  assert faults[''] > 10_000
  assert faults['cpu.prepare()'] < 1_000
