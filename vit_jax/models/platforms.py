"""Kinds of devices, as far as networks are written differently for them.

What a network computes is the same for all, up to rounding.
"""

import jax

FLASH = 'flash'  # A GPU with cuDNN's flash attention.
_FIRST_WITH_FLASH = 8  # Compute capability: Ampere.


def of(device: jax.Device) -> str:
  """'cpu', 'tpu', FLASH, or 'gpu' for other GPUs, such as AMD's or a T4."""
  if device.platform != 'gpu':
    return device.platform
  # NVIDIA's are numbers, such as 9.0.
  generation = str(getattr(device, 'compute_capability', '')).split('.')[0]
  has_flash = generation.isdigit() and int(generation) >= _FIRST_WITH_FLASH
  return FLASH if has_flash else 'gpu'
