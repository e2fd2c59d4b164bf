"""Lower bounds on the time of a program on a TPU slice."""

from vit_jax.distributed import compilation, topologies


def seconds(
  cost: compilation.Cost, slice_: topologies.Slice
) -> dict[str, float]:
  """Returns the shortest possible time of a program, by physical limit.

  Each time considers only one limit: FLOPs at the peak rate of a core, bytes at
  its HBM bandwidth, or bytes between chips at the total bandwidth of the links
  of the chip with the fewest. The largest is a lower bound.

  Args:
    cost: result of compiling the program for the slice.
    slice_: the slice.
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
