"""Collectives of a compiled program, counted in its HLO text."""

from collections.abc import Mapping
import dataclasses
import functools
import math
import re

KINDS = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)

_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?[\w.-]+ = (.*?) ([\w-]+)\((.*)$')
_ARRAY = re.compile(r'\b[a-z]+(\d*)\[([\d,]*)\]')  # Bits and dimensions.
_CALLED = re.compile(
  r'(?:calls|to_apply|body|condition|(?:true|false)_computation)=%?([\w.-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{(.*?)\}')


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


def traffic(hlo: str) -> dict[str, Traffic]:
  """Returns the collectives in one execution of a program, by kind.

  All branches of a conditional count, although only one of them is executed.

  Args:
    hlo: text of a compiled module.

  Raises:
    ValueError: if there is no entry computation, or the trip count of a loop
      with collectives cannot be determined.
  """
  computations, entry = _computations(hlo)
  totals = dict.fromkeys(KINDS, Traffic(0, 0, 0))
  for name, executions in _executions(computations, entry).items():
    for shape, operation, _ in computations[name]:
      kind = operation.removesuffix('-start')
      if kind in totals:
        old, size = totals[kind], executions * _result_bytes(shape, operation)
        totals[kind] = Traffic(
          old.instructions + 1, old.count + executions, old.bytes + size
        )
  return totals


_Instruction = tuple[str, str, str]  # Shape, operation, operands and the rest.


def _computations(hlo: str) -> tuple[dict[str, list[_Instruction]], str]:
  computations, entry, current = {}, None, None
  for line in hlo.splitlines():
    if header := _COMPUTATION.match(line):
      current = computations.setdefault(header[1], [])
      if line.startswith('ENTRY'):
        entry = header[1]
    elif line.startswith('}'):
      current = None
    elif current is not None and (match := _INSTRUCTION.match(line)):
      current.append((match[1], match[2], match[3]))
  if entry is None:
    raise ValueError(
      'the text is not that of an HLO module: it has no ENTRY computation.'
    )
  return computations, entry


def _executions(
  computations: Mapping[str, list[_Instruction]], entry: str
) -> dict[str, int]:
  """Returns how often one execution of the program runs each computation."""
  executions = dict.fromkeys(computations, 0)

  def visit(name: str, number: int) -> None:
    executions[name] += number
    for _, operation, rest in computations[name]:
      called = _called(rest)
      trip_count = 1
      # Loops without collectives count as one iteration: that of a sampler, as
      # of MixUp's weight, depends on the draws.
      if operation == 'while' and any(map(has_collectives, called)):
        condition = re.search(r'condition=%?([\w.-]+)', rest)[1]
        trip_count = _trip_count(computations[condition])
      for other in called:
        visit(other, number * trip_count)

  @functools.cache
  def has_collectives(name: str) -> bool:
    return any(
      operation.removesuffix('-start') in KINDS
      or any(map(has_collectives, _called(rest)))
      for _, operation, rest in computations[name]
    )

  visit(entry, 1)
  return executions


def _called(rest: str) -> list[str]:
  """Returns the computations that an instruction calls."""
  called = _CALLED.findall(rest)
  for branches in _BRANCHES.findall(rest):
    called += re.findall(r'[\w.-]+', branches)
  return called


def _trip_count(condition: list[_Instruction]) -> int:
  """Returns the constant upper bound of a counter that starts at 0."""
  limits = [
    int(match[1])
    for shape, operation, rest in condition
    if operation == 'constant' and shape.startswith('s32[]')
    if (match := re.match(r'(\d+)\)', rest))
  ]
  if len(limits) != 1:
    raise ValueError(
      f'cannot determine the trip count of a loop with {len(limits)} constants'
      ' in its condition; expected one.'
    )
  return limits[0]


def _result_bytes(shape: str, operation: str) -> int:
  """Returns the size of a result; an async start also lists its operands."""
  arrays = [  # A `pred`, without a number of bits, takes a byte.
    math.prod(map(int, filter(None, sides.split(',')))) * int(bits or 8) // 8
    for bits, sides in _ARRAY.findall(shape)
  ]
  return max(arrays) if operation.endswith('-start') else sum(arrays)
