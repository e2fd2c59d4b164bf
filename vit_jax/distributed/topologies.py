"""TPU slices to compile for, without an attached TPU.

libtpu compiles on any Linux machine (`pip install -e '.[tpu]'`). Slices are
named as in libtpu, by generation and chips: `v3:2x2` has 4 chips with 8
cores. To add a generation, add a row to `GENERATIONS`.
"""

from collections.abc import Sequence
import dataclasses
import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies

from vit_jax import foreign_errors

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """Specification of the chips of a TPU generation.

  Attributes:
    cores: number of devices per chip.
    peak: bfloat16 FLOPs per second; a multiply-add counts as two.
    hbm_bandwidth: bytes per second between the chip and its memory.
    link_bandwidth: bytes per second that each link to another chip sends.
    ring: a side of a slice wraps around if its number of chips is a multiple of
      this number.
    dimensions: number of dimensions of the chip topology.
    available: bytes of memory available to a program on one device, as stated
      by libtpu when a program needs more.
  """

  cores: int
  peak: float
  hbm_bandwidth: float
  link_bandwidth: float
  ring: int
  dimensions: int
  available: int


# From the pages on each generation in "TPU system architecture" of the Google
# Cloud documentation (docs.cloud.google.com/tpu/docs/v3, ...). The bandwidth of
# a link is the all-reduce bandwidth of a pod, divided by chips and links per
# chip; for v5p, a sixth of the stated bandwidth per chip. What the pages do not
# state for v2 is from Jouppi et al. (2020), "A Domain-Specific Supercomputer
# for Training Deep Neural Networks".
GENERATIONS = {
  'v2': Chip(2, 45e12, 700e9, 62e9, 16, 2, round(7.48 * GIB)),
  'v3': Chip(2, 123e12, 900e9, 83e9, 32, 2, round(15.48 * GIB)),
  'v4': Chip(1, 275e12, 1200e9, 45e9, 4, 3, round(30.75 * GIB)),
  'v5e': Chip(1, 197e12, 819e9, 50e9, 16, 2, round(15.75 * GIB)),
  'v5p': Chip(1, 459e12, 2765e9, 100e9, 4, 3, round(95.74 * GIB)),
  'v6e': Chip(1, 918e12, 1638e9, 100e9, 16, 2, round(31.25 * GIB)),
}

# Without these, libtpu searches for an attached TPU and logs its absence.
_NO_TPU_HERE = {
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v3-8',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_MIN_LOG_LEVEL': '3',
  'TPU_STDERR_LOG_LEVEL': '3',
}


@dataclasses.dataclass(frozen=True)
class Slice:
  """A TPU slice.

  Attributes:
    devices: descriptions to create a mesh and compile for; they cannot run
      programs.
    chip: specification of each chip.
    links: smallest number of links of any chip: that of a corner, unless all
      sides wrap around.
  """

  devices: Sequence[jax.Device]
  chip: Chip
  links: int


def describe(name: str) -> Slice:
  """Returns the slice with the given name, such as `v3:4x4` or `v4:2x2x1`.

  Raises:
    ValueError: if libtpu is not installed or does not know the slice.
  """
  generation, colon, chips = name.partition(':')
  chip = GENERATIONS.get(generation)
  if not chip or not re.fullmatch(r'\d{1,2}(x\d{1,2})*', chips):
    raise ValueError(
      f'{name!r} is not a TPU slice; write GENERATION:CHIPS, such as v3:2x2 (8'
      ' cores), v3:4x4 (32 cores) or v4:2x2x1. Known generations:'
      f' {", ".join(GENERATIONS)}.'
    )
  sides = tuple(map(int, chips.split('x')))
  if len(sides) != chip.dimensions:
    raise ValueError(
      f'{name!r} is not a TPU slice; the chip topology of {generation} has'
      f' {chip.dimensions} dimensions, such as'
      f' {generation}:{"x".join("2" * chip.dimensions)}.'
    )
  if not importlib.util.find_spec('libtpu'):
    raise ValueError(
      "compiling for TPUs needs libtpu (Linux only): pip install 'jax[tpu]'"
      f'=={jax.__version__}.'
    )
  for variable, value in _NO_TPU_HERE.items():
    os.environ.setdefault(variable, value)
  options = {}
  if generation == 'v4':  # On Cloud TPUs, both cores form a single device.
    options['chip_config_name'] = 'megacore'
  if math.prod(sides) < 4:  # The default host has 2x2 chips.
    options['chips_per_host_bounds'] = (sides + (1, 1))[:3]
  try:
    topology = topologies.get_topology_desc(
      platform='tpu', topology_name=name, **options
    )
  except Exception as error:  # JAX raises many types of error.
    reason = foreign_errors.message(error)
    raise ValueError(
      f'libtpu does not know the slice {name!r} ({reason}); a slice consists of'
      ' hosts with 2x2 chips, such as v3:4x4 or v4:2x2x2.'
    ) from error
  links = sum(
    0 if side == 1 else 1 if side % chip.ring else 2 for side in sides
  )
  return Slice(topology.devices, chip, links)
