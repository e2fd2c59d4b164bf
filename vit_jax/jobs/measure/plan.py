"""What a training run would take on TPU slices that are not here."""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import json
import logging
import re
from typing import Any

from etils import epath
import jax
from jax.sharding import Mesh
import ml_collections

from vit_jax import config as config_lib
from vit_jax.build import program
from vit_jax.distributed import compilation, sharding, topologies
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.jobs.measure import plan_table, planned
from vit_jax.models import flops
from vit_jax.workdir import claim, console, files, results

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Point:
  """A model, a slice and a global batch to plan for."""

  model: str
  topology: str
  batch_size: int

  @property
  def file_name(self) -> str:
    """Where its numbers are kept."""
    name = f'{self.model}_{self.topology}_{self.batch_size}.json'
    return re.sub(r'[^\w.+-]', '-', name)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Compiles the training step for each slice; prints and writes its cost.

  `plan.txt` is what is printed, `results.json` has all numbers. Each point is
  kept in `points/`, so that the same command goes on after an interruption.

  Raises:
    ValueError: for a slice, model or dataset that is not known, or parts of the
      config that do not fit each other.
  """
  # Nothing is run on devices, and whoever has a TPU may be using it.
  jax.config.update('jax_platforms', 'cpu')
  config = config.copy_and_resolve_references()
  points = list(_points(config))
  slices = {p.topology: topologies.describe(p.topology) for p in points}
  if claim.is_finished(config_lib.flatten(config), workdir):
    console.show((workdir / files.PLAN).read_text())
    return
  claim.start(config_lib.flatten(config), workdir)
  (workdir / 'points').mkdir(exist_ok=True)
  rows = []
  for point in points:
    path = workdir / 'points' / point.file_name
    if not path.exists():
      files.write_json(path, _plan(config, point, slices[point.topology]))
    rows.append(json.loads(path.read_text()))
  text = plan_table.write(rows)
  files.write_text(workdir / files.PLAN, text)
  results.write(workdir, config.job, points=rows)
  console.show(text)


def _points(config: ml_collections.ConfigDict) -> Iterator[Point]:
  models = _items(config.plan.models) or [config.model.name]
  batch_sizes = config_lib.integers(config, 'plan.batch_sizes')
  for combination in itertools.product(
    models,
    _items(config.plan.topologies),
    batch_sizes or [config.batch_size],
  ):
    yield Point(*combination)


def _items(text: str) -> list[str]:
  return [item.strip() for item in text.split(',') if item.strip()]


def _plan(
  config: ml_collections.ConfigDict, point: Point, slice_: topologies.Slice
) -> dict[str, Any]:
  """The numbers of one point, in bytes, operations and seconds."""
  config = config.copy_and_resolve_references()
  config.model.name = point.model
  config.batch_size = point.batch_size
  mesh = mesh_lib.create(**config.mesh, devices=slice_.devices)
  candidates = CANDIDATES[config.plan.fit](config, mesh_lib.batch_shards(mesh))
  chosen, built, cost = _first_that_fits(candidates, mesh, point.topology)
  forward = flops.forward(built.plain_model, config_lib.image_size(chosen))
  return {
    'model': point.model,
    'topology': point.topology,
    'cores': len(slice_.devices),
    'peak_operations_per_second': slice_.core.peak,
    'mesh': dict(mesh.shape),
    'batch_size': chosen.batch_size,
    'accumulate': chosen.optim.accumulate,
    'image_size': config_lib.image_size(chosen),
    'parameters': sum(x.size for x in jax.tree.leaves(built.state.params)),
    'state_bytes': sharding.device_bytes(built.state),
    'available_bytes': slice_.core.available,
    'fits': cost is not None,
    **(dataclasses.asdict(cost) if cost else {}),
    'operations_per_step': flops.count(
      built.step, built.state, built.batch, built.seed
    ),
    # Three passes' worth: what is computed again brings training no further.
    'useful_operations_per_step': 3 * forward * chosen.batch_size,
    'steps': built.total_steps,
    'given_utilisation': chosen.plan.utilisation,
  }


def _by_micro_batches(
  config: ml_collections.ConfigDict, shards: int
) -> list[ml_collections.ConfigDict]:
  """As few micro-batches as possible, from the given number on."""
  found = []
  accumulate = config.optim.accumulate
  while config.batch_size % (shards * accumulate) == 0:
    found.append(_with(config, config.batch_size, accumulate))
    accumulate *= 2
  return found or [config]  # Which the program will refuse.


def _by_batch_size(
  config: ml_collections.ConfigDict, shards: int
) -> list[ml_collections.ConfigDict]:
  """The largest batch, up to the given one, in powers of two of a row each."""
  smallest = shards * config.optim.accumulate
  doublings = max(config.batch_size // smallest, 1).bit_length()
  return [
    _with(config, smallest << i, config.optim.accumulate)
    for i in reversed(range(doublings))
  ]


CANDIDATES = {
  'none': lambda config, shards: [config],
  'accumulate': _by_micro_batches,
  'largest': _by_batch_size,
}


def _with(config, batch_size, accumulate):
  config = config.copy_and_resolve_references()
  config.batch_size = batch_size
  config.optim.accumulate = accumulate
  return config


def _first_that_fits(
  candidates: Sequence[ml_collections.ConfigDict], mesh: Mesh, topology: str
) -> tuple[ml_collections.ConfigDict, program.Program, compilation.Cost | None]:
  """The first config whose step fits, or the last, with its cost if it fits."""
  for config in candidates:
    built = planned.build(config, mesh)
    what = (
      f'compiling {config.model.name} for {topology}, batch'
      f' {config.batch_size}, micro-batches {config.optim.accumulate}'
    )
    # What does not fit is refused within seconds.
    with console.phase(what):
      try:
        cost = compilation.compile_for_tpu(
          built.step, built.state, built.batch, built.seed
        )
        return config, built, cost
      except compilation.DoesNotFitError as error:
        _log.info('%s', error)
  return config, built, None
