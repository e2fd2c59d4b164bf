"""Collectives of a compiled program."""

from collections.abc import Hashable, Iterator, Sequence
import dataclasses
import math
import re

import numpy as np

from vit_jax.distributed import hlo


@dataclasses.dataclass(frozen=True)
class Traffic:
  """The collectives of one kind in a program.

  Attributes:
    instructions: number of instructions in the program.
    count: number of executions; those in a loop count once per iteration.
    bytes: total size of the results of all executions on one device.
  """

  instructions: int
  count: int
  bytes: int


def traffic(program: hlo.Program) -> dict[str, Traffic]:
  """Returns the collectives in one execution of a program, by kind."""
  totals = dict.fromkeys(hlo.COLLECTIVES, Traffic(0, 0, 0))
  for executions, kind, instruction in _collectives(program):
    old, size = totals[kind], executions * _result_bytes(instruction)
    totals[kind] = Traffic(
      old.instructions + 1, old.count + executions, old.bytes + size
    )
  return totals


def bytes_per_chip(program: hlo.Program, chips: Sequence[Hashable]) -> float:
  """Returns the bytes that a chip has to send to others, on average.

  This is a lower bound: in an all-reduce of s bytes among n chips, each chip of
  a ring sends 2 (n - 1) / n s; in an all-gather or a reduce-scatter, half of
  that. Transfers between cores of the same chip do not count.

  Args:
    program: the compiled program.
    chips: for each device of the program, in order, the chip that it is on.
  """
  # Bytes that a group sends per byte of the result on a device, by its number
  # of devices, and its number of chips minus one.
  factors = {
    'all-reduce': lambda devices, others: 2 * others,
    'all-gather': lambda devices, others: others,
    'reduce-scatter': lambda devices, others: devices * others,
    'all-to-all': lambda devices, others: devices * others / (others + 1),
  }
  sent = 0.0
  for executions, kind, instruction in _collectives(program):
    size = executions * _result_bytes(instruction)
    if kind == 'collective-permute':
      pairs = instruction.attribute(r'source_target_pairs=\{(.*?\})\}')
      for source, target in re.findall(r'(\d+),(\d+)', pairs):
        sent += size * (chips[int(source)] != chips[int(target)])
      continue
    for group in _groups(instruction, len(chips)):
      others = len({chips[device] for device in group}) - 1
      sent += size * factors[kind](len(group), others)
  return sent / len(set(chips))


def _collectives(
  program: hlo.Program,
) -> Iterator[tuple[int, str, hlo.Instruction]]:
  for computation, executions in program.executions.items():
    for instruction in program.computations[computation].values():
      kind = instruction.operation.removesuffix('-start')
      if kind in hlo.COLLECTIVES:
        yield executions, kind, instruction


def _result_bytes(instruction: hlo.Instruction) -> int:
  """Returns the size of a result; an async start also lists its operands."""
  sizes = [array.bytes for array in instruction.arrays]
  return max(sizes) if instruction.operation.endswith('-start') else sum(sizes)


def _groups(instruction: hlo.Instruction, devices: int) -> list[list[int]]:
  """Returns the groups of devices of a collective.

  XLA writes them in one of three formats.

  Raises:
    ValueError: if the format is unknown.
  """
  text = instruction.attribute(r'replica_groups=(.*?)(?:, \w+=|$)') or '{}'
  # {{0,1},{2,3}}; {} is a single group of all devices.
  if re.fullmatch(r'\{(\{[\d,]+\},?)*\}', text):
    groups = re.findall(r'\{([\d,]+)\}', text)
    listed = [list(map(int, group.split(','))) for group in groups]
    return listed or [list(range(devices))]
  if match := re.fullmatch(  # [2,4]<=[2,2,2]T(1,0,2): 2 groups of 4.
    r'\[\d+,(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', text
  ):
    shape = list(map(int, match[2].split(',')))
    order = map(int, match[3].split(',')) if match[3] else range(len(shape))
    return _split(shape, list(order), int(match[1]))
  if match := re.fullmatch(  # mesh['a'=2,'b'=4] {'b'}: along b.
    r"mesh\[((?:'\w+'=\d+,?)+)\] \{((?:'\w+',?)*)\}", text
  ):
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
    along = re.findall(r"'(\w+)'", match[2])
    names = [*(name for name in sizes if name not in along), *along]
    return _split(
      list(map(int, sizes.values())),
      [list(sizes).index(name) for name in names],
      math.prod(int(sizes[name]) for name in along),
    )
  raise ValueError(
    f'cannot read the groups of devices of a collective, {text!r}; expected a'
    ' list such as {{0,1}}, an iota such as [1,2]<=[2], or mesh axes such as'
    " mesh['a'=2] {'a'}."
  )


def _split(shape: list[int], order: list[int], size: int) -> list[list[int]]:
  """Returns groups of `size` devices from a transposed grid of devices."""
  devices = np.arange(math.prod(shape)).reshape(shape)
  return devices.transpose(order).reshape(-1, size).tolist()
