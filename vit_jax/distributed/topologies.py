"""TPU slices that need not be there, to compile for.

libtpu compiles on any machine (`pip install 'vit_jax[tpu]'`). A slice is named
as libtpu names it, generation and chips: `v3:2x2` is 4 chips, 8 cores. To add a
generation, add a row.
"""

from collections.abc import Sequence
import dataclasses
import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Core:
  """What one device of a generation offers; peaks as its maker states them.

  Attributes:
    peak: bfloat16 operations a second, two to a multiply-add.
    available: bytes of its memory that a program gets, as libtpu says when one
      needs more.
    dimensions: of the chips' grid.
  """

  peak: float
  available: int
  dimensions: int


# In v2, v3 and v4 a chip is two devices, each with half of it.
GENERATIONS = {
  'v2': Core(45e12 / 2, round(7.48 * GIB), 2),
  'v3': Core(123e12 / 2, round(15.48 * GIB), 2),
  'v4': Core(275e12 / 2, round(15.25 * GIB), 3),
  'v5e': Core(197e12, round(15.75 * GIB), 2),
  'v5p': Core(459e12, round(95.74 * GIB), 3),
  'v6e': Core(918e12, round(31.25 * GIB), 2),
}


# Else libtpu looks for this machine's own TPU, and complains of what it misses.
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
    name: as libtpu has it.
    devices: to build a mesh of and compile for; nothing can run on them.
    core: what each of the devices offers.
  """

  name: str
  devices: Sequence[jax.Device]
  core: Core


def describe(name: str) -> Slice:
  """Returns the slice of that name, such as `v3:4x4` or `v4:2x2x1`.

  Raises:
    ValueError: if libtpu is not installed or knows no such slice.
  """
  generation, colon, chips = name.partition(':')
  core = GENERATIONS.get(generation)
  if not core or not re.fullmatch(r'\d+(x\d+)*', chips):
    raise ValueError(
      f'{name!r} is no TPU slice; write GENERATION:CHIPS, such as v3:2x2 (8'
      ' cores), v3:4x4 (32 cores) or v4:2x2x1, with a generation of'
      f' {", ".join(GENERATIONS)}.'
    )
  sides = tuple(map(int, chips.split('x')))
  if len(sides) != core.dimensions:
    raise ValueError(
      f'{name!r}: the chips of {generation} form a grid of'
      f' {core.dimensions} dimensions, such as'
      f' {generation}:{"x".join("2" * core.dimensions)}.'
    )
  if not importlib.util.find_spec('libtpu'):
    raise ValueError(
      "compiling for a TPU needs its compiler, libtpu: pip install 'jax[tpu]'"
      f'=={jax.__version__} (for Linux).'
    )
  for variable, value in _NO_TPU_HERE.items():
    os.environ.setdefault(variable, value)
  options = {}
  if math.prod(sides) < 4:  # The default host has 2x2 chips.
    options['chips_per_host_bounds'] = (sides + (1, 1))[:3]
  try:
    found = topologies.get_topology_desc(
      platform='tpu', topology_name=name, **options
    )
  except Exception as error:  # jax raises many kinds.
    reason = str(error).strip().splitlines()[0]
    raise ValueError(
      f'libtpu knows no slice {name!r} ({reason}); whole hosts have 2x2 chips,'
      ' so that sides are 1, 2, 4, 8 and so on.'
    ) from error
  return Slice(name, found.devices, core)
