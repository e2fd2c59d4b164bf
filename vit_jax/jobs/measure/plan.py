"""Memory and time of a training run on TPU slices that are not attached."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import itertools
import logging
import re
from typing import Any

from etils import epath
import jax
from jax.sharding import Mesh
import ml_collections

from vit_jax import config as config_lib
from vit_jax.build import dataset_facts
from vit_jax.build import program as program_lib
from vit_jax.distributed import compilation, limits, sharding, topologies
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.models import flops
from vit_jax.workdir import claim, console, files, results

_log = logging.getLogger(__name__)

GIB = 2**30
DAY = 86_400  # Seconds.

# TPUv3-core-days from Table 2 and exaFLOPs of the same runs. For JFT-300M, they
# are in Table 6; for ImageNet-21k, those of L/16 are scaled by the images seen,
# 90 times 12.4 million against 14 times 303 million.
_PAPER = {
  'ViT-H/14, JFT-300M, 14 epochs': (2500, 4262),
  'ViT-L/16, JFT-300M, 14 epochs': (680, 1567),
  'ViT-L/16, ImageNet-21k, 90 epochs': (230, 1567 * (90 * 12.4) / (14 * 303)),
}

# The numbers of a case, in bytes, FLOPs and seconds.
Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
  """A model, a TPU slice and a global batch size to plan for."""

  model: str
  topology: str
  batch_size: int

  @property
  def file_name(self) -> str:
    """Name of the file with the case's numbers."""
    name = f'{self.model}_{self.topology}_{self.batch_size}.json'
    return re.sub(r'[^\w.+-]', '-', name)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Compiles the training step for each slice; prints and writes its cost.

  `plan.txt` has the printed text, `results.json` all numbers. Finished cases
  are kept in `points/`, so that an interrupted job resumes after them.

  Raises:
    ValueError: if a slice, model or dataset is unknown, or parts of the config
      do not match each other.
  """
  # Nothing runs on a device, and an attached TPU may be in use.
  jax.config.update('jax_platforms', 'cpu')
  config = config.copy_and_resolve_references()
  cases = _cases(config)
  slices = {c.topology: topologies.describe(c.topology) for c in cases}
  if claim.is_finished(config_lib.flatten(config), workdir):
    console.show((workdir / files.PLAN).read_text())
    return
  claim.start(config_lib.flatten(config), workdir)
  rows = []
  for case in cases:
    plan = functools.partial(_plan, config, case, slices[case.topology])
    path = workdir / 'points' / case.file_name
    rows.append(files.read_or_make_json(path, plan))
  text = report(rows)
  files.write_text(workdir / files.PLAN, text)
  results.write(workdir, config.job, points=rows)
  console.show(text)


def _cases(config: ml_collections.ConfigDict) -> list[Case]:
  combinations = itertools.product(
    config.plan.models or [config.model.name],
    config.plan.topologies,
    config.plan.batch_sizes or [config.batch_size],
  )
  return list(itertools.starmap(Case, combinations))


def _plan(
  config: ml_collections.ConfigDict, case: Case, slice_: topologies.Slice
) -> dict[str, Any]:
  """Returns the numbers of one case, in bytes, FLOPs and seconds."""
  config = config.copy_and_resolve_references()
  config.model.name = case.model
  config.batch_size = case.batch_size
  mesh = mesh_lib.create(**config.mesh, devices=slice_.devices)
  candidates = CANDIDATES[config.plan.fit](config, mesh_lib.batch_shards(mesh))
  chosen, program, cost = _first_that_fits(candidates, mesh, case.topology)
  image_size = config_lib.image_size(chosen)
  forward = flops.forward(program.plain_model, image_size)
  return {
    'model': case.model,
    'topology': case.topology,
    'cores': len(slice_.devices),
    'peak_operations_per_second': slice_.chip.peak / slice_.chip.cores,
    'mesh': dict(mesh.shape),
    'batch_size': chosen.batch_size,
    'accumulate': chosen.optim.accumulate,
    'image_size': image_size,
    'parameters': sum(x.size for x in jax.tree.leaves(program.state.params)),
    'state_bytes': sharding.device_bytes(program.state),
    'available_bytes': slice_.chip.available,
    'fits': cost is not None,
    **_cost(cost, slice_),
    'operations_per_step': flops.count(
      program.step, program.state, program.batch, program.seed
    ),
    # Three forward passes; rematerialization is not useful work.
    'useful_operations_per_step': 3 * forward * chosen.batch_size,
    'steps': program.total_steps,
    'given_utilisation': chosen.plan.utilisation,
  }


def _cost(
  cost: compilation.Cost | None, slice_: topologies.Slice
) -> dict[str, Any]:
  if cost is None:
    return {}
  return dataclasses.asdict(cost) | {'limits': limits.seconds(cost, slice_)}


def _more_micro_batches(
  config: ml_collections.ConfigDict, shards: int
) -> list[ml_collections.ConfigDict]:
  """Doubles the number of micro-batches, starting from the config's."""
  candidates = []
  accumulate = config.optim.accumulate
  while config.batch_size % (shards * accumulate) == 0:
    candidates.append(_with(config, config.batch_size, accumulate))
    accumulate *= 2
  return candidates or [config]  # The program will reject the batch size.


def _smaller_batches(
  config: ml_collections.ConfigDict, shards: int
) -> list[ml_collections.ConfigDict]:
  """Halves the batch, down to one example per shard and micro-batch."""
  smallest = shards * config.optim.accumulate
  doublings = max(config.batch_size // smallest, 1).bit_length()
  return [
    _with(config, smallest << i, config.optim.accumulate)
    for i in reversed(range(doublings))
  ]


CANDIDATES = {
  'none': lambda config, shards: [config],
  'accumulate': _more_micro_batches,
  'largest': _smaller_batches,
}


def _with(config, batch_size, accumulate):
  config = config.copy_and_resolve_references()
  config.batch_size = batch_size
  config.optim.accumulate = accumulate
  return config


def _first_that_fits(
  candidates: Sequence[ml_collections.ConfigDict], mesh: Mesh, topology: str
) -> tuple[
  ml_collections.ConfigDict, program_lib.Program, compilation.Cost | None
]:
  """Returns the first config whose step fits, or the last without a cost."""
  for config in candidates:
    program = _program(config, mesh)
    what = (
      f'compiling {config.model.name} for {topology}, batch'
      f' {config.batch_size}, micro-batches {config.optim.accumulate}'
    )
    # If a program does not fit, the compiler rejects it within seconds.
    with console.phase(what):
      try:
        cost = compilation.compile_for_tpu(
          program.step,
          program.state,
          program.batch,
          program.seed,
          options=program.compiler_options,
        )
        return config, program, cost
      except compilation.DoesNotFitError as error:
        _log.info('%s', error)
  return config, program, None


def _program(
  config: ml_collections.ConfigDict, mesh: Mesh
) -> program_lib.Program:
  """Returns the program that the job `plan.job` would run on the mesh."""
  num_steps = total_steps(config)
  if config.plan.job == 'masked_patch':
    return program_lib.masked_patches(config, mesh, total_steps=num_steps)
  facts = dataset_facts.look_up_or_open(config)
  return program_lib.supervised(
    config,
    mesh,
    num_classes=facts.num_classes,
    multi_label=facts.multi_label,
    total_steps=num_steps,
  )


def total_steps(config: ml_collections.ConfigDict) -> int:
  """Returns the steps of the run; epochs depend on the size of its dataset.

  Raises:
    ValueError: if the dataset or its split is unknown, or its data is missing.
  """
  if config.total_steps:
    return config.total_steps
  facts = dataset_facts.look_up_or_open(config)
  return config_lib.total_steps(config, facts.num_examples)


def paper_utilisation(run: str) -> float:
  """Returns the share of TPUv3's peak that a run of Table 2 achieved."""
  core_days, exaflops = _PAPER[run]
  chip = topologies.GENERATIONS['v3']
  return exaflops * 1e18 * chip.cores / (core_days * DAY * chip.peak)


def step_seconds(row: Row, utilisation: float) -> float:
  """Returns the seconds per step at a share of the slice's peak."""
  peak = row['cores'] * row['peak_operations_per_second']
  return row['useful_operations_per_step'] / (peak * utilisation)


def core_days(row: Row, utilisation: float) -> float:
  """Returns the TPU-core-days of the whole run."""
  return step_seconds(row, utilisation) * row['steps'] * row['cores'] / DAY


def report(rows: Sequence[Row]) -> str:
  """Returns each case in full, a table of several cases, and Table 2."""
  parts = [_details(row) for row in rows]
  if len(rows) > 1:
    parts.append(_overview(rows))
  parts.append(_paper())
  return '\n\n'.join(parts) + '\n'


def _details(row: Row) -> str:
  mesh = ', '.join(f'{axis} {size}' for axis, size in row['mesh'].items())
  height, width = row['image_size']
  lines = [
    f'{row["model"]} on {row["topology"]}: {row["cores"]} cores ({mesh})',
    f'{row["steps"]:,} steps of {row["batch_size"]} images, {height}x{width}'
    f' px; micro-batches: {row["accumulate"]}',
    '',
  ]
  table = [
    ['parameters', f'{row["parameters"]:,}'],
    ['state per core', _gib(row['state_bytes'])],
    *_memory(row),
    ['FLOPs per step', f'{row["operations_per_step"]:.4g}'],
    [
      'useful FLOPs (3 forward passes)',
      f'{row["useful_operations_per_step"]:.4g}',
    ],
    *(
      [kind, _traffic(traffic)]
      for kind, traffic in row.get('traffic', {}).items()
      if traffic['count']
    ),
    *_limits(row),
    *_time(row),
  ]
  return '\n'.join(lines) + console.table(table)


def _memory(row: Row) -> list[list[str]]:
  available = row['available_bytes']
  if not row['fits']:
    return [['fits', f'no, not in {_gib(available)}']]
  spare = available - row['peak']
  return [
    ['arguments per core', _gib(row['arguments'])],
    ['temporaries per core', _gib(row['temporaries'])],
    ['peak per core', f'{_gib(row["peak"])} of {_gib(available)}'],
    ['fits', f'yes, with {_gib(spare)} to spare'],
    ['compiled in', console.duration(row['compile_seconds'])],
  ]


def _traffic(traffic: Mapping[str, int]) -> str:
  return (
    f'{traffic["count"]} per step, by {traffic["instructions"]} instructions,'
    f' {_gib(traffic["bytes"])}'
  )


def _limits(row: Row) -> list[list[str]]:
  times = row.get('limits')  # Absent if it does not fit.
  if not times:
    return []
  amounts = {
    'compute': f'{row["operations"]:.4g} FLOPs per core',
    'HBM': f'{row["hbm_bytes"] / 1e9:,.4g} GB per core',
    'interconnect': f'{row["chip_bytes"] / 1e9:.4g} GB per chip',
  }
  cycles = row['estimated_cycles']
  return [
    *(
      [f'limit: {limit}', f'{seconds:.3g} s, {amounts[limit]}']
      for limit, seconds in times.items()
    ),
    ['binding limit', f'{_binding(row)} of the peak'],
    ["compiler's estimate", f'{cycles:.4g} cycles, without collectives'],
  ]


def _binding(row: Row) -> str:
  """Returns the binding limit and the share of the peak that it allows."""
  limit = limits.binding(row['limits'])
  share = step_seconds(row, 1) / row['limits'][limit]
  return f'{limit}, at most {share:.1%}'


def _time(row: Row) -> list[list[str]]:
  shares = [
    (f"as in the paper's {run}", paper_utilisation(run)) for run in _PAPER
  ]
  shares.append(('plan.utilisation', row['given_utilisation']))
  return [
    [
      f'at {share:.1%} of the peak, {which}',
      f'{step_seconds(row, share):.3g} s per step,'
      f' {core_days(row, share):,.4g} core-days',
    ]
    for which, share in shares
  ]


def _overview(rows: Sequence[Row]) -> str:
  table = [
    [
      'model',
      'slice',
      'batch',
      'micro-batches',
      'peak',
      'spare',
      'shortest step',
      'binding limit',
      'core-days',
    ]
  ]
  for row in rows:
    days = core_days(row, row['given_utilisation'])
    memory, bound = ['does not fit', ''], ['', '']
    if row['fits']:
      memory = [_gib(row['peak']), _gib(row['available_bytes'] - row['peak'])]
    if 'limits' in row:
      bound = [f'{max(row["limits"].values()):.3g} s', _binding(row)]
    table.append(
      [
        row['model'],
        row['topology'],
        str(row['batch_size']),
        str(row['accumulate']),
        *memory,
        *bound,
        f'{days:,.4g}',
      ]
    )
  return console.table(table)


def _paper() -> str:
  table = [['Table 2 of the paper', 'TPUv3-core-days', "of TPUv3's peak"]]
  for run, (days, _) in _PAPER.items():
    table.append([run, f'{days:,}', f'{paper_utilisation(run):.1%}'])
  return console.table(table)


def _gib(num_bytes: int) -> str:
  return f'{num_bytes / GIB:.2f} GiB'
