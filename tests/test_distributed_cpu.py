"""Training on a CPU: memory that is kept, and how a step is compiled."""

import os
import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from vit_jax.distributed import cpu

# Faults of a page a step, of 16,384 pages that its temporaries take.
COUNT = """
import resource, statistics
import jax, jax.numpy as jnp
from vit_jax.distributed import cpu

{prepare}

@jax.jit
def step(x):
  scores = x @ x.T  # 64 MiB.
  return scores @ x

x = jnp.ones((4096, 8)) / 64
faults = [0]
for _ in range(10):
  step(x).block_until_ready()
  faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
# The heap may grow once more, between two steps.
print(statistics.median_low(b - a for a, b in zip(faults[3:], faults[4:])))
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


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='measured there')
def test_products_are_left_to_eigen():
  def of_compiled(options):
    query = jnp.ones((2, 50, 16))
    product = jax.jit(lambda x: jnp.einsum('bqs,bks->bqk', x, x))
    return product.lower(query).compile(compiler_options=options).as_text()

  assert 'ynn_fusion' in of_compiled({})
  assert 'ynn_fusion' not in of_compiled(cpu.compiler_options('cpu'))


def test_other_devices_have_no_options_for_cpus():
  assert cpu.compiler_options('tpu') == cpu.compiler_options('gpu') == {}


def test_options_that_the_compiler_does_not_know_are_left_out():
  assert cpu.known({'xla_cpu_option_of_another_version': '1'}) == {}
