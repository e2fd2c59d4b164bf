"""TPU slices to compile for, without an attached TPU.

libtpu compiles on any machine (`pip install 'vit_jax[tpu]'`). Slices are
named as in libtpu, by generation and chips: `v3:2x2` has 4 chips with 8
cores. To add a generation, add a row.
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
class Core:
  """Specification of one device of a generation.

  Attributes:
    peak: bfloat16 FLOPs per second, as stated by Google; a multiply-add
      counts as two.
    available: bytes of memory available to a program, as stated by libtpu when
      a program needs more.
    dimensions: number of dimensions of the chip topology.
  """

  peak: float
  available: int
  dimensions: int


# A chip of v2, v3 or v4 counts as two devices.
GENERATIONS = {
  'v2': Core(45e12 / 2, round(7.48 * GIB), 2),
  'v3': Core(123e12 / 2, round(15.48 * GIB), 2),
  'v4': Core(275e12 / 2, round(15.25 * GIB), 3),
  'v5e': Core(197e12, round(15.75 * GIB), 2),
  'v5p': Core(459e12, round(95.74 * GIB), 3),
  'v6e': Core(918e12, round(31.25 * GIB), 2),
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
    core: specification of each device.
  """

  devices: Sequence[jax.Device]
  core: Core


def describe(name: str) -> Slice:
  """Returns the slice with the given name, such as `v3:4x4` or `v4:2x2x1`.

  Raises:
    ValueError: if libtpu is not installed or does not know the slice.
  """
  generation, colon, chips = name.partition(':')
  core = GENERATIONS.get(generation)
  if not core or not re.fullmatch(r'\d{1,2}(x\d{1,2})*', chips):
    raise ValueError(
      f'{name!r} is not a TPU slice; write GENERATION:CHIPS, such as v3:2x2 (8'
      ' cores), v3:4x4 (32 cores) or v4:2x2x1. Known generations:'
      f' {", ".join(GENERATIONS)}.'
    )
  sides = tuple(map(int, chips.split('x')))
  if len(sides) != core.dimensions:
    raise ValueError(
      f'{name!r} is not a TPU slice; the chip topology of {generation} has'
      f' {core.dimensions} dimensions, such as'
      f' {generation}:{"x".join("2" * core.dimensions)}.'
    )
  if not importlib.util.find_spec('libtpu'):
    raise ValueError(
      "compiling for TPUs needs libtpu (Linux only): pip install 'jax[tpu]'"
      f'=={jax.__version__}.'
    )
  for variable, value in _NO_TPU_HERE.items():
    os.environ.setdefault(variable, value)
  options = {}
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
  return Slice(topology.devices, core)
