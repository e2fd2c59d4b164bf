"""Memory of the attached devices."""

import os

import jax

_GIB = 2**30


def check_fits(needed: dict[str, int], device: jax.Device) -> None:
  """Checks that arrays fit into the memory of a device.

  Otherwise, a host that trains on its CPU would swap, or its kernel would kill
  the process without a message.

  Args:
    needed: bytes needed on the device, by purpose.
    device: an attached device.

  Raises:
    ValueError: if more bytes are needed than the device has.
  """
  available = _available(device)
  if available is None or sum(needed.values()) <= available:
    return
  parts = ', '.join(f'{n / _GIB:,.1f} GiB for {p}' for p, n in needed.items())
  raise ValueError(
    f'a training step needs at least {sum(needed.values()) / _GIB:,.1f} GiB per'
    f' device ({parts}), but {device.device_kind} has {available / _GIB:,.1f}'
    ' GiB; lower batch_size, data.image_size or the size of the model, raise'
    ' optim.accumulate, set model.remat=full, or use more devices.'
  )


def _available(device: jax.Device) -> int | None:
  """Returns the bytes of a device, or None if it does not report them.

  The CPU devices of a process share the memory of the host.
  """
  if device.platform == 'cpu':
    host = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return host // jax.local_device_count()
  return (device.memory_stats() or {}).get('bytes_limit')
