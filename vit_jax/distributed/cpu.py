"""Settings of a process that trains on its host's processors."""

import ctypes
import platform
import sys

import jax

# Of glibc's malloc.h, with values that mean: none at all, and never.
_MMAP_MAX, _NO_MAPPINGS = -4, 0
_TRIM_THRESHOLD, _NEVER = -1, -1

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
  if jax.default_backend() == 'cpu' and sys.platform == 'linux':
    set_option = getattr(ctypes.CDLL(None), 'mallopt', None)
    if set_option is not None:
      set_option(_MMAP_MAX, _NO_MAPPINGS)
      set_option(_TRIM_THRESHOLD, _NEVER)


def compiler_options(kind: str) -> dict[str, str]:
  """Options of XLA for training steps, as `Lowered.compile` takes them.

  XLA for CPU has two libraries for products. That of Eigen takes two thirds of
  the other's time for the small ones of attention, and no more for those of
  dense layers; the other is left with reductions and what leads to them.

  Args:
    kind: of device to compile for, such as 'cpu'.

  Returns:
    None where no gain was measured, or XLA does not know the option.
  """
  if kind != 'cpu' or platform.machine().lower() not in ('x86_64', 'amd64'):
    return {}
  return known(_PRODUCTS_BY_EIGEN)


def known(options: dict[str, str]) -> dict[str, str]:
  """Returns options for CPUs as they are, or none if XLA refuses them."""
  try:
    jax.jit(lambda: 0).lower().compile(compiler_options=options)
  except jax.errors.JaxRuntimeError:
    return {}
  return options
