"""Training on CPUs: reuse of memory, and compiler options."""

import os
import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.distributed import cpu

ON_LINUX = pytest.mark.skipif(sys.platform != 'linux', reason='needs Linux')

STEP = """
import resource, statistics
import jax, jax.numpy as jnp
from vit_jax.distributed import cpu

{prepare}

@jax.jit
def step(x):
  scores = x @ x.T  # 64 MiB.
  return scores @ x

x = jnp.ones((4096, 8)) / 64
"""

# Page faults per step, of 16,384 pages of temporary buffers.
COUNT = """
faults = [0]
for _ in range(10):
  step(x).block_until_ready()
  faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
# The median ignores a single growth of the heap.
print(statistics.median_low(b - a for a, b in zip(faults[3:], faults[4:])))
"""

# Bytes released after a call, and again after another.
GIVE_BACK = """
expected = step(x).block_until_ready()
print(cpu.give_back_memory())
assert (step(x) == expected).all()
print(cpu.give_back_memory())
"""

# Sizes in kB and flags of all memory mappings.
COMPILE = """
cpu.compile_step(step.lower(x))(x).block_until_ready()
for line in open('/proc/self/smaps'):
  if line.startswith(('Size:', 'VmFlags:')):
    print(line.strip())
"""


def run(program, prepare):
  # On a single device, and compiled as training runs are.
  tests_only = ('XLA_FLAGS', 'JAX_DISABLE_MOST_OPTIMIZATIONS')
  environment = {k: v for k, v in os.environ.items() if k not in tests_only}
  return subprocess.run(
    [sys.executable, '-c', STEP.format(prepare=prepare) + program],
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  ).stdout


@ON_LINUX
def test_steps_reuse_memory():
  assert int(run(COUNT, '')) > 10_000
  # One process in 50 maps the block in every step all the same.
  assert any(int(run(COUNT, 'cpu.prepare()')) < 1_000 for _ in range(3))


@ON_LINUX
def test_kept_memory_is_given_back():
  first, second = map(int, run(GIVE_BACK, 'cpu.prepare()').split())
  assert first > 60 << 20 and second > 60 << 20


@ON_LINUX
@pytest.mark.skipif(
  not os.path.exists('/sys/kernel/mm/transparent_hugepage'),
  reason='the kernel has no huge pages',
)
def test_temporary_buffers_lie_on_huge_pages():
  huge = size = 0
  for line in run(COMPILE, 'cpu.prepare()').splitlines():
    name, *values = line.split()
    if name == 'Size:':
      size = int(values[0])
    elif 'hg' in values:
      huge += size
  assert 60 * 1024 < huge < 70 * 1024


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='needs x86')
def test_products_are_compiled_for_eigen(optimized):
  query = jnp.ones((2, 50, 16))
  product = jax.jit(lambda x: jnp.einsum('bqs,bks->bqk', x, x)).lower(query)
  assert 'ynn_fusion' in product.compile().as_text()
  compiled = cpu.compile_step(product)
  assert 'ynn_fusion' not in compiled.as_text()
  np.testing.assert_array_equal(compiled(query), 16)


def test_unknown_compiler_options_are_dropped():
  assert (
    cpu.supported_options((('xla_cpu_option_of_another_version', '1'),)) == {}
  )
