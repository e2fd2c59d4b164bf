"""Memory and compiler settings for CPUs."""

import ctypes
import functools
import platform
import sys

import jax
from jax.stages import Compiled, Lowered

from vit_jax.distributed import memory

# Options of glibc's mallopt (malloc.h), with values that disable them.
_MMAP_MAX, _NO_MAPPINGS = -4, 0
_TRIM_THRESHOLD, _NEVER = -1, -1

_HUGE_PAGES = 14  # MADV_HUGEPAGE of Linux.
_PAGE = 4096

# Halves the compile time. At level 0, the random numbers would be different.
_FEW_OPTIMIZATIONS = {'xla_backend_optimization_level': 1}

_PRODUCTS_BY_EIGEN = (
  ('xla_cpu_experimental_ynn_fusion_type', 'LIBRARY_FUSION_TYPE_REDUCE'),
)


def prepare() -> None:
  """Lets programs reuse memory; must be called before any device is used.

  The temporary buffers of a program are a single allocation; that of a training
  step includes everything kept for the backward pass. By default, glibc maps it
  at the start of every call and unmaps it at the end. Mapping and clearing its
  pages takes a fifth of the CPU time of a step of ViT-Ti/16, and a tenth of
  that of a forward pass (docs/results.md, "Speed"). This function makes glibc
  keep freed memory, and JAX compute in the calling thread, to whose heap the
  setting applies. `give_back_memory` returns that memory to the system.

  On other devices, or with another C library, memory is allocated as usual.
  """
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  if jax.default_backend() == 'cpu' and _has_mallopt():
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, _NO_MAPPINGS)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)


def options_of_init() -> dict[str, int]:
  """Returns compiler options for the program that initializes parameters."""
  if jax.config.read('jax_disable_most_optimizations'):
    return {}
  return _FEW_OPTIMIZATIONS


def give_back_memory() -> int:
  """Releases freed memory, which glibc keeps after `prepare`, to the system.

  Call it between phases that run different programs. It has an effect only on
  Linux with glibc.

  Returns:
    Number of bytes by which the resident memory of the process has shrunk.
  """
  if not _has_mallopt():
    return 0
  before = _resident_bytes()
  ctypes.CDLL(None).malloc_trim(0)
  return max(before - _resident_bytes(), 0)


def compiler_options(device: jax.Device) -> dict[str, str]:
  """Returns compiler options for programs that run a model on a device.

  XLA has two libraries for matrix products on CPUs, Eigen and YNNPACK. On x86,
  the small products of attention take a third less time with Eigen, and those
  of dense layers the same time. YNNPACK is therefore restricted to reductions
  and the operations that feed them. Other devices need no options.
  """
  is_x86 = platform.machine().lower() in ('x86_64', 'amd64')
  if device.platform == 'cpu' and is_x86:
    return supported_options(_PRODUCTS_BY_EIGEN)
  return {}


def compile_step(lowered: Lowered) -> Compiled:
  """Compiles a training step for the CPUs of this host.

  After `prepare`, its temporary buffers are on huge pages.

  Raises:
    ValueError: if the step does not fit into the memory of the host.
  """
  device = jax.local_devices(backend='cpu')[0]
  compiled = lowered.compile(compiler_options=compiler_options(device))
  needed = compiled.memory_analysis()
  memory.check_fits(
    {
      'its arguments': needed.argument_size_in_bytes,
      'its temporary buffers': needed.temp_size_in_bytes,
    },
    device,
  )
  if _has_mallopt():
    _advise_huge_pages(needed.temp_size_in_bytes)
  return compiled


@functools.cache
def supported_options(options: tuple[tuple[str, str], ...]) -> dict[str, str]:
  """Returns the options if XLA for CPUs knows them all, otherwise none."""
  try:
    with jax.default_device(jax.local_devices(backend='cpu')[0]):
      jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
  except jax.errors.JaxRuntimeError:
    return {}
  return dict(options)


def _has_mallopt() -> bool:
  return sys.platform == 'linux' and hasattr(ctypes.CDLL(None), 'mallopt')


def _resident_bytes() -> int:
  with open('/proc/self/statm') as f:  # Total and resident pages, and others.
    return int(f.read().split()[1]) * _PAGE


def _advise_huge_pages(num_bytes: int) -> None:
  """Requests huge pages for the part of the heap where malloc puts a block."""
  libc = ctypes.CDLL(None)
  libc.malloc.restype = ctypes.c_void_p
  libc.malloc.argtypes = (ctypes.c_size_t,)
  libc.free.argtypes = (ctypes.c_void_p,)
  libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
  if block := libc.malloc(num_bytes):
    begin = -(-block // _PAGE) * _PAGE
    end = (block + num_bytes) // _PAGE * _PAGE
    if begin < end:
      libc.madvise(begin, end - begin, _HUGE_PAGES)
    libc.free(block)
