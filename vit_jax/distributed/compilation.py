"""Compilation for devices that are not attached, and the compilation cache."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import logging
import os
import re
import time
from typing import Any

from etils import epath
import filelock
import jax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from vit_jax.distributed import collectives, cpu, hlo, program_cost
from vit_jax.distributed import mesh as mesh_lib

_log = logging.getLogger(__name__)

_CACHE_BYTES = 2**30
_LOCK, _LOCK_SECONDS = '.lockfile', 10  # The same as in JAX.

_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30}
_SIZE = r'(\d+(?:\.\d+)?)([KMG]?)'
_DOES_NOT_FIT = (
  rf'required for .*? \({_SIZE}\) exceeds available HBM \({_SIZE}\)',
  rf'Used {_SIZE}i?B? of {_SIZE}i?B? hbm',
)

_WHOLE_PRODUCTS = {'xla_jf_spmd_threshold_for_windowed_einsum_mib': str(2**20)}


def jit(
  function: Callable[..., Any], device: jax.Device, **settings: Any
) -> Any:
  """Returns `jax.jit(function, **settings)` of a function that runs a model.

  It is compiled with `cpu.compiler_options` for a device like the given one.
  """
  options = cpu.compiler_options(device)
  return jax.jit(function, compiler_options=options, **settings)


@dataclasses.dataclass(frozen=True)
class Cost:
  """Resources that a compiled program needs on each device.

  Attributes:
    arguments: bytes of its arguments.
    temporaries: bytes of its temporary buffers.
    peak: largest number of bytes in use at any time.
    operations: FLOPs of its matrix products and convolutions.
    hbm_bytes: bytes that it reads from and writes to HBM.
    estimated_cycles: the compiler's estimate of its cycles.
    traffic: its collectives, by kind.
    chip_bytes: bytes that a chip sends to others, on average.
    compile_seconds: compile time.
  """

  arguments: int
  temporaries: int
  peak: int
  operations: int
  hbm_bytes: int
  estimated_cycles: int
  traffic: dict[str, collectives.Traffic]
  chip_bytes: float
  compile_seconds: float


class DoesNotFitError(ValueError):
  """A program needs more memory than a device has.

  Attributes:
    needed: bytes of its temporary buffers.
    available: bytes of memory available to a program.
  """

  def __init__(self, needed: int, available: int):
    super().__init__(
      f'the program needs {needed / 2**30:.2f} GiB of temporary buffers on a'
      f' device with {available / 2**30:.2f} GiB.'
    )
    self.needed = needed
    self.available = available


def compile_for_tpu(
  jitted: Any, *args: Any, options: dict[str, str] | None = None
) -> Cost:
  """Compiles a jitted function for the devices of its arguments' shardings.

  Args:
    jitted: result of `jax.jit`.
    *args: shapes with shardings over the devices of a `topologies.Slice`.
    options: compiler options, such as those of `step_options`.

  Raises:
    DoesNotFitError: if the memory of a device is too small.
  """
  lowered = jitted.trace(*args).lower(lowering_platforms=('tpu',))
  begin = time.perf_counter()
  try:
    # The cache cannot read programs back for devices that are not attached.
    with _cache_options(jax_enable_compilation_cache=False):
      compiled = lowered.compile(compiler_options=options)
  except jax.errors.JaxRuntimeError as error:
    for pattern in _DOES_NOT_FIT:
      if match := re.search(pattern, str(error)):
        needed, needed_unit, available, available_unit = match.groups()
        raise DoesNotFitError(
          round(float(needed) * _UNITS[needed_unit]),
          round(float(available) * _UNITS[available_unit]),
        ) from error
    raise
  seconds = time.perf_counter() - begin
  memory = compiled.memory_analysis()
  program = hlo.parse(compiled.as_text())
  devices = jax.tree.leaves(args)[0].sharding.mesh.devices.flat
  return Cost(
    arguments=memory.argument_size_in_bytes,
    temporaries=memory.temp_size_in_bytes,
    peak=memory.peak_memory_in_bytes,
    operations=program_cost.operations(program),
    hbm_bytes=program_cost.hbm_bytes(program),
    estimated_cycles=program_cost.estimated_cycles(program),
    traffic=collectives.traffic(program),
    chip_bytes=collectives.bytes_per_chip(
      program, [tuple(device.coords) for device in devices]
    ),
    compile_seconds=seconds,
  )


def step_options(mesh: Mesh) -> dict[str, str]:
  """Returns compiler options for training steps on a mesh.

  With `fsdp`, XLA for newer TPUs splits each product with sharded weights into
  a loop that passes the shards around while it computes (windowed einsum). In
  training steps, gathering the weights takes only a few percent of the time of
  the products, and the loops increase HBM traffic (docs/results.md, "Plans").
  The options disable the loops, if this version of XLA supports that.
  """
  is_tpu = mesh.devices.flat[0].platform == 'tpu'
  sizes = mesh.shape
  if not is_tpu or sizes[mesh_lib.FSDP] == 1 or sizes[mesh_lib.TENSOR] > 1:
    return {}
  trivial = jax.jit(lambda: 0, out_shardings=mesh_lib.replicated(mesh))
  lowered = trivial.trace().lower(lowering_platforms=('tpu',))
  try:
    with _cache_options(jax_enable_compilation_cache=False):
      lowered.compile(compiler_options=_WHOLE_PRODUCTS)
  except jax.errors.JaxRuntimeError:
    return {}
  return _WHOLE_PRODUCTS


@contextlib.contextmanager
def persistent_cache(folder: epath.Path) -> Iterator[None]:
  """Keeps compiled programs in a folder, to share them between runs.

  JAX identifies a program by its code, compiler options and flags, the versions
  of JAX and XLA, and the devices, for CPUs including the instruction set.
  Several processes can share a local folder; when it exceeds 1 GiB, JAX removes
  the least recently used programs.

  If the folder cannot be written, logs a warning and has no effect. Also has no
  effect if JAX is configured with another folder.
  """
  if jax.config.jax_compilation_cache_dir:
    yield
    return
  is_local = '://' not in os.fspath(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    if is_local:
      _remove_incomplete(folder)
  except OSError as error:
    _log.warning(
      'compiled programs cannot be kept in %s (%s), so later runs will compile'
      ' them again; set compilation_cache to another folder, or to none',
      folder,
      error,
    )
    yield
    return
  with _cache_options(
    jax_compilation_cache_dir=os.fspath(folder),
    jax_persistent_cache_min_compile_time_secs=0.1,
    # With a limit, JAX locks the folder, which must therefore be local.
    jax_compilation_cache_max_size=_CACHE_BYTES if is_local else -1,
  ):
    yield


def _remove_incomplete(folder: epath.Path) -> None:
  """Removes programs that were incomplete when their process was killed.

  JAX writes the time of the last use of a program after the program itself.
  """
  with filelock.FileLock(os.fspath(folder / _LOCK), timeout=_LOCK_SECONDS):
    for program in folder.glob('*-cache'):
      name = program.name.removesuffix('-cache')
      if not (folder / f'{name}-atime').exists():
        program.unlink()


@contextlib.contextmanager
def _cache_options(**options: Any) -> Iterator[None]:
  before = {name: getattr(jax.config, name) for name in options}
  try:
    _update(options)
    yield
  finally:
    _update(before)


def _update(options):
  for name, value in options.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()  # It reads its settings only once.
