"""The collectives of a compiled program, read from its HLO text."""

from collections.abc import Mapping
import dataclasses
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
_ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
_CALLED = re.compile(r'(?:calls|to_apply|body|condition)=%?([\w.-]+)')
_BITS = re.compile(r'\d+')


@dataclasses.dataclass(frozen=True)
class Traffic:
  """How often a program runs a kind of collective, and on how much.

  Attributes:
    instructions: of that kind in the program, wherever they are.
    count: of operations that run; one in a loop counts as often as it runs.
    bytes: of their results on one device, as often as they run.
  """

  instructions: int
  count: int
  bytes: int


def traffic(hlo: str) -> dict[str, Traffic]:
  """The collectives of one run of a program, by kind.

  Args:
    hlo: the text of a compiled module.

  Raises:
    ValueError: if there is no entry computation, or a loop with collectives
      whose length the text does not tell.
  """
  computations, entry = _computations(hlo)
  instructions = dict.fromkeys(KINDS, 0)
  counts = dict.fromkeys(KINDS, 0)
  sizes = dict.fromkeys(KINDS, 0)
  for name, times in _times_run(computations, entry).items():
    for shape, operation, _ in computations[name]:
      kind = operation.removesuffix('-start')
      if kind in counts:
        instructions[kind] += 1
        counts[kind] += times
        sizes[kind] += times * _result_bytes(shape, operation)
  return {
    kind: Traffic(instructions[kind], counts[kind], sizes[kind])
    for kind in KINDS
  }


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
    elif current is not None and (found := _INSTRUCTION.match(line)):
      current.append((found[1], found[2], found[3]))
  if entry is None:
    raise ValueError('the text has no ENTRY computation; it is no HLO module.')
  return computations, entry


def _times_run(
  computations: Mapping[str, list[_Instruction]], entry: str
) -> dict[str, int]:
  """How often each computation runs in one run of the program."""
  times = dict.fromkeys(computations, 0)

  def visit(name: str, runs: int) -> None:
    times[name] += runs
    for _, operation, rest in computations[name]:
      length = 1
      if operation == 'while':
        condition = re.search(r'condition=%?([\w.-]+)', rest)[1]
        length = _loop_length(computations[condition])
      for called in _CALLED.findall(rest):
        visit(called, runs * length)

  visit(entry, 1)
  return times


def _loop_length(condition: list[_Instruction]) -> int:
  """The constant that a counter from 0 has to stay below."""
  limits = [
    int(found[1])
    for shape, operation, rest in condition
    if operation == 'constant' and shape.startswith('s32[]')
    if (found := re.match(r'(\d+)\)', rest))
  ]
  if len(limits) != 1:
    raise ValueError(f'a loop with {len(limits)} constants in its condition.')
  return limits[0]


def _result_bytes(shape: str, operation: str) -> int:
  """Bytes of a result; an asynchronous start also names its operands."""
  arrays = [
    math.prod(map(int, filter(None, sides.split(',')))) * _item_bits(kind) // 8
    for kind, sides in _ARRAY.findall(shape)
  ]
  return max(arrays) if operation.endswith('-start') else sum(arrays)


def _item_bits(kind: str) -> int:
  found = _BITS.search(kind)
  return int(found[0]) if found else 8  # A `pred` takes a byte.
