"""A compiled program, parsed from its HLO text."""

from collections.abc import Iterable, Mapping
import dataclasses
import functools
import math
import re

PRODUCTS = ('convolution', 'dot')
COLLECTIVES = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
# These execute the computations that they call, instruction by instruction.
CONTROL_FLOW = ('while', 'conditional', 'call', 'async-start')

_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.-]+) \(.*\{$')
_INSTRUCTION = re.compile(
  r'^\s*(ROOT )?%?([\w.-]+) = (.*?) ([\w-]+)\(([^)]*)\)?(.*)$'
)
_CALLED = re.compile(
  r'(?:calls|to_apply|body|condition|(?:true|false)_computation)=%?([\w.-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{(.*?)\}')
# Bits, dimensions, minor-to-major order, and tiling of an array.
_ARRAY = re.compile(
  r'\b[a-z]+(\d*)\w*\[([\d,]*)\](?:\{([\d,]*)(?::((?:\([^)]*\)|\w)*))?\})?'
)


@dataclasses.dataclass(frozen=True)
class Array:
  """An operand or result.

  Attributes:
    shape: its dimensions.
    bytes: its size without padding.
    padded_bytes: its size in a device's memory, in whole tiles.
    in_hbm: whether it is in HBM rather than in on-chip memory.
  """

  shape: tuple[int, ...]
  bytes: int
  padded_bytes: int
  in_hbm: bool


@dataclasses.dataclass(frozen=True)
class Instruction:
  """An instruction of a computation.

  Attributes:
    operation: opcode, such as `convolution`.
    operands: names of the operands.
    literal: text in the parentheses; the value of a constant, or the number of
      a parameter.
    attributes: text after the operands.
    is_root: whether its result is that of the computation.
    result: text of the shape of its result.
  """

  operation: str
  operands: tuple[str, ...]
  literal: str
  attributes: str
  is_root: bool
  result: str

  @functools.cached_property
  def arrays(self) -> list[Array]:
    """The arrays of the result."""
    return [_array(*match) for match in _ARRAY.findall(self.result)]

  @functools.cached_property
  def called(self) -> list[str]:
    """Names of the computations that the instruction calls."""
    names = _CALLED.findall(self.attributes)
    for branches in _BRANCHES.findall(self.attributes):
      names += re.findall(r'[\w.-]+', branches)
    return names

  def attribute(self, pattern: str) -> str | None:
    """Returns what a pattern's group matches in the attributes, or None."""
    match = re.search(pattern, self.attributes)
    return match[1] if match else None


Computation = Mapping[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Program:
  """The computations of a compiled program.

  Attributes:
    computations: the instructions of each computation; both are keyed by name.
    executions: how often each computation runs per execution of the program.
      All branches of a conditional count, although only one is executed.
    scheduled: names of the computations whose instructions run one by one; the
      others are parts of an instruction, such as a fusion.
  """

  computations: Mapping[str, Computation]
  executions: Mapping[str, int]
  scheduled: frozenset[str]


def parse(text: str) -> Program:
  """Parses the text of a compiled module, the result of `as_text`.

  A loop of unknown length counts as one iteration if it has no products and no
  collectives. An example is rejection sampling, such as that of MixUp's weight.

  Raises:
    ValueError: if there is no entry computation, or the trip count of a loop
      with products or collectives cannot be determined.
  """
  computations, entry = _computations(text)
  executions = dict.fromkeys(computations, 0)
  scheduled = set()

  @functools.cache
  def is_costly(name: str) -> bool:
    return any(
      instruction.operation.removesuffix('-start') in PRODUCTS + COLLECTIVES
      or any(map(is_costly, instruction.called))
      for instruction in computations[name].values()
    )

  def visit(name: str, number: int, is_scheduled: bool) -> None:
    executions[name] += number
    if is_scheduled:
      scheduled.add(name)
    for instruction in computations[name].values():
      called, times = instruction.called, number
      if instruction.operation == 'while':
        condition, body = (
          computations[instruction.attribute(rf'{name}=%?([\w.-]+)')]
          for name in ('condition', 'body')
        )
        must_be_known = any(map(is_costly, called))
        times *= _trip_count(condition, body, must_be_known)
      for other in called:
        visit(
          other, times, is_scheduled and instruction.operation in CONTROL_FLOW
        )

  visit(entry, 1, True)
  return Program(computations, executions, frozenset(scheduled))


def _computations(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
  computations, entry, current = {}, None, None
  for line in text.splitlines():
    if header := _COMPUTATION.match(line):
      current = computations.setdefault(header[1], {})
      if line.startswith('ENTRY'):
        entry = header[1]
    elif line.startswith('}'):
      current = None
    elif current is not None and (match := _INSTRUCTION.match(line)):
      root, name, result, operation, literal, attributes = match.groups()
      operands = tuple(re.findall(r'%([\w.-]+)', literal))
      current[name] = Instruction(
        operation, operands, literal, attributes, bool(root), result
      )
  if entry is None:
    raise ValueError(
      'the text is not that of an HLO module: it has no ENTRY computation.'
    )
  return computations, entry


def _trip_count(
  condition: Computation, body: Computation, must_be_known: bool
) -> int:
  """Returns the trip count of a loop with a counter that starts at 0."""
  limits = _integers(condition.values())
  if len(limits) == 1:
    return math.ceil(limits[0] / _step(condition, body))
  if must_be_known:
    raise ValueError(
      f'cannot determine the trip count of a loop with {len(limits)} constants'
      ' in its condition; expected one.'
    )
  return 1


def _step(condition: Computation, body: Computation) -> int:
  """Returns the increment of a loop's counter, above 1 if XLA unrolled it."""
  for instruction in condition.values():
    if instruction.operation == 'get-tuple-element':
      index = int(instruction.attribute(r'index=(\d+)'))
      root = next(each for each in body.values() if each.is_root)
      update = body[root.operands[index]]
      if update.operation == 'add':
        return sum(_integers(map(body.get, update.operands))) or 1
  return 1


def _integers(instructions: Iterable[Instruction]) -> list[int]:
  return [
    int(instruction.literal)
    for instruction in instructions
    if instruction.operation == 'constant'
    and instruction.result.startswith(('s32[]', 'u32[]'))
  ]


def _array(bits: str, dims: str, order: str, layout: str) -> Array:
  shape = tuple(map(int, filter(None, dims.split(','))))
  itemsize = int(bits or 8) / 8  # `pred` has no number; it takes a byte.
  padded = [shape[int(axis)] for axis in filter(None, order.split(','))]
  if tile := re.search(r'T\(([\d,]+)\)', layout):
    sizes = map(int, reversed(tile[1].split(',')))
    for i, size in enumerate(sizes):
      if i < len(padded):
        padded[i] = math.ceil(padded[i] / size) * size
  return Array(
    shape=shape,
    bytes=math.ceil(math.prod(shape) * itemsize),
    padded_bytes=math.ceil(math.prod(padded or shape) * itemsize),
    in_hbm='S(' not in layout or 'S(0)' in layout,
  )
