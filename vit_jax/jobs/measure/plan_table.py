"""A plan's numbers as a person reads them, beside those of the paper."""

from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax.distributed import topologies
from vit_jax.workdir import console

GIB = 2**30
DAY = 86_400

Row = Mapping[str, Any]

# TPUv3-core-days of Table 2, and the exaFLOPs of the same runs: those of Table
# 6 for JFT-300M, and L/16's, in proportion to its images, for ImageNet-21k.
_PAPER = {
  'ViT-H/14, JFT-300M, 14 epochs': (2500, 4262),
  'ViT-L/16, JFT-300M, 14 epochs': (680, 1567),
  'ViT-L/16, ImageNet-21k, 90 epochs': (
    230,
    1567 * (90 * 14.197122) / (14 * 303),
  ),
}


def paper_utilisation(run: str) -> float:
  """Share of TPUv3's peak that a run of Table 2 made use of."""
  core_days, exaflops = _PAPER[run]
  peak = topologies.GENERATIONS['v3'].peak
  return exaflops * 1e18 / (core_days * DAY * peak)


def step_seconds(row: Row, utilisation: float) -> float:
  """Seconds that a step takes at a share of the slice's peak."""
  peak = row['cores'] * row['peak_operations_per_second']
  return row['useful_operations_per_step'] / (peak * utilisation)


def core_days(row: Row, utilisation: float) -> float:
  """TPU-core-days of the whole schedule."""
  return step_seconds(row, utilisation) * row['steps'] * row['cores'] / DAY


def write(rows: Sequence[Row]) -> str:
  """All rows in full, and one table of them if there are several."""
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
    f'{row["batch_size"]} images of {height}x{width} px a step, in'
    f' {row["accumulate"]} micro-batches; {row["steps"]:,} steps',
    '',
  ]
  table = [
    ['parameters', f'{row["parameters"]:,}'],
    ['state on a core', _gib(row['state_bytes'])],
    *_memory(row),
    ['operations a step', f'{row["operations_per_step"]:.4g}'],
    [
      'of which useful, 3 forward passes',
      f'{row["useful_operations_per_step"]:.4g}',
    ],
    *(
      [kind, _traffic(traffic)]
      for kind, traffic in row.get('traffic', {}).items()
      if traffic['count']
    ),
    *_time(row),
  ]
  return '\n'.join(lines) + console.table(table)


def _memory(row: Row) -> list[list[str]]:
  available = row['available_bytes']
  if not row['fits']:
    return [['fits', f'no, not into {_gib(available)}']]
  spare = available - row['peak']
  return [
    ['arguments on a core', _gib(row['arguments'])],
    ['temporaries on a core', _gib(row['temporaries'])],
    ['peak on a core', f'{_gib(row["peak"])} of {_gib(available)}'],
    ['fits', f'yes, with {_gib(spare)} to spare'],
    ['compiled in', console.duration(row['compile_seconds'])],
  ]


def _traffic(traffic: Mapping[str, int]) -> str:
  return (
    f'{traffic["count"]} a step, by {traffic["instructions"]} instructions,'
    f' {_gib(traffic["bytes"])}'
  )


def _time(row: Row) -> list[list[str]]:
  shares = [(f"as the paper's {run}", paper_utilisation(run)) for run in _PAPER]
  shares.append(('as given', row['given_utilisation']))
  return [
    [
      f'at {share:.1%} of the peak, {which}',
      f'{step_seconds(row, share):.3g} s a step,'
      f' {core_days(row, share):,.4g} core-days',
    ]
    for which, share in shares
  ]


def _overview(rows: Sequence[Row]) -> str:
  table = [
    ['model', 'slice', 'batch', 'micro-batches', 'peak', 'spare', 'core-days']
  ]
  for row in rows:
    days = core_days(row, row['given_utilisation'])
    memory = ['does not fit', '']
    if row['fits']:
      memory = [_gib(row['peak']), _gib(row['available_bytes'] - row['peak'])]
    table.append(
      [
        row['model'],
        row['topology'],
        str(row['batch_size']),
        str(row['accumulate']),
        *memory,
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
