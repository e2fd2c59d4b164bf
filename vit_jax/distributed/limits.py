"""Shortest possible times of a program on a TPU slice."""

from vit_jax.distributed import compilation, topologies


def seconds(
  cost: compilation.Cost, slice_: topologies.Slice
) -> dict[str, float]:
  """Returns how long a program takes at least, by physical limit.

  Each time is that of one limit only: FLOPs at the peak of a core, bytes at the
  bandwidth of its HBM, and bytes between chips at the bandwidth of all links of
  the chip with the fewest. No execution takes less than the longest time.

  Args:
    cost: result of compiling the program for the slice.
    slice_: devices that execute it.
  """
  chip = slice_.chip
  times = {
    'compute': cost.operations * chip.cores / chip.peak,
    'HBM': cost.hbm_bytes * chip.cores / chip.hbm_bandwidth,
  }
  if slice_.links:
    links = slice_.links * chip.link_bandwidth
    times['interconnect'] = cost.chip_bytes / links
  return times


def binding(times: dict[str, float]) -> str:
  """Returns the limit with the longest time."""
  return max(times, key=times.get)
