"""Settings of a process that trains on its host's processors."""

import ctypes
import platform
import sys

import jax
from jax.stages import Compiled, Lowered

# Of glibc's malloc.h, with values that mean: none at all, and never.
_MMAP_MAX, _NO_MAPPINGS = -4, 0
_TRIM_THRESHOLD, _NEVER = -1, -1

_HUGE_PAGES = 14  # Of Linux's madvise.
_PAGE = 4096

_PRODUCTS_BY_EIGEN = {
  'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE'
}


def prepare() -> None:
  """Lets steps on a CPU reuse memory; to be called before a device is used.

  A step's temporaries are one block, as large as all that is kept for its
  backward pass. glibc takes a block of that size from the system and gives it
  back at every step; mapping and clearing its pages anew takes a fifth of the
  time of a step (docs/results.md, "Speed"). After this, glibc keeps what is
  freed; and JAX computes in the calling thread, to whose heap that applies.

  Does nothing for other devices, or with another C library.
  """
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  if jax.default_backend() == 'cpu' and _has_mallopt():
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_MAX, _NO_MAPPINGS)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)


def compile_step(lowered: Lowered) -> Compiled:
  """Compiles a training step for CPUs.

  XLA has two libraries for products on CPU. On x86, that of Eigen takes two
  thirds of the other's time for the small ones of attention, and no more for
  those of dense layers; the other is left with reductions and what leads to
  them. After `prepare`, the step's temporaries are on huge pages.
  """
  is_x86 = platform.machine().lower() in ('x86_64', 'amd64')
  options = known_options(_PRODUCTS_BY_EIGEN) if is_x86 else {}
  compiled = lowered.compile(compiler_options=options)
  if _has_mallopt():
    _lay_on_huge_pages(compiled.memory_analysis().temp_size_in_bytes)
  return compiled


def known_options(options: dict[str, str]) -> dict[str, str]:
  """Returns options of XLA for CPUs as they are, or none if it refuses them."""
  try:
    jax.jit(lambda: 0).lower().compile(compiler_options=options)
  except jax.errors.JaxRuntimeError:
    return {}
  return options


def _has_mallopt() -> bool:
  return sys.platform == 'linux' and hasattr(ctypes.CDLL(None), 'mallopt')


def _lay_on_huge_pages(num_bytes: int) -> None:
  """Advises so for the part of the heap that such a block is to come from."""
  libc = ctypes.CDLL(None)
  libc.malloc.restype = ctypes.c_void_p
  libc.malloc.argtypes = (ctypes.c_size_t,)
  libc.free.argtypes = (ctypes.c_void_p,)
  libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
  block = libc.malloc(num_bytes)
  if block:
    begin = -(-block // _PAGE) * _PAGE
    end = (block + num_bytes) // _PAGE * _PAGE
    if begin < end:
      libc.madvise(begin, end - begin, _HUGE_PAGES)
    libc.free(block)
