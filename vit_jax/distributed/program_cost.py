"""FLOPs and memory traffic of a compiled program, counted in its HLO.

XLA's `cost_analysis` counts the body of a loop once, whatever its trip count.
If `operations` did so too, it would differ from XLA's count only by the
element-wise operations, 0.7 % in ViT-L/16.
"""

import numpy as np

from vit_jax.distributed import hlo

# Operations that move no data.
_FREE = (
  'after-all',
  'bitcast',
  'constant',
  'get-tuple-element',
  'opt-barrier',
  'parameter',
  'tuple',
)
_SLICES = ('dynamic-slice', 'gather', 'slice', 'slice-done')
_FREE_CALLS = ('"AllocateBuffer"', '"ConcatBitcast"')


def operations(program: hlo.Program) -> int:
  """Returns the FLOPs of matrix products and convolutions on one device.

  This includes what the compiler recomputes to save memory. Element-wise
  operations do not count, nor do custom calls, such as Pallas kernels.
  """
  return sum(
    executions * _product(instruction, program.computations[name])
    for name, executions in program.executions.items()
    for instruction in program.computations[name].values()
    if instruction.operation in hlo.PRODUCTS
  )


def hbm_bytes(program: hlo.Program) -> int:
  """Returns the bytes that one device reads from and writes to its HBM.

  Every instruction reads its operands and writes its results, each once and in
  whole tiles. If an array is only sliced or partly updated, only that part
  counts.
  """
  return sum(
    program.executions[name] * _moved(program, instruction, name)
    for name in program.scheduled
    for instruction in program.computations[name].values()
  )


def estimated_cycles(program: hlo.Program) -> int:
  """Returns the cycles of one device, as estimated by the TPU's compiler.

  The estimate includes fusions and copies, but neither collectives nor
  asynchronous copies. It is 0 for other compilers.
  """
  return sum(
    program.executions[name]
    * int(instruction.attribute(r'"estimated_cycles":"(\d+)"') or 0)
    for name in program.scheduled
    for instruction in program.computations[name].values()
  )


def _product(instruction: hlo.Instruction, computation: hlo.Computation) -> int:
  left, right = (
    computation[name].arrays[0].shape for name in instruction.operands
  )
  (out,) = (array.shape for array in instruction.arrays)
  if instruction.operation == 'dot':
    axes = instruction.attribute(r'lhs_contracting_dims=\{([\d,]*)\}')
    depth = [left[int(axis)] for axis in axes.split(',') if axis]
    return 2 * int(np.prod(out) * np.prod(depth))
  labels = instruction.attribute(r'dim_labels=([^,\s]+)')
  images, kernel, results = labels.replace('->', '_').split('_')
  count = 2 * left[images.index('b')]
  count *= right[kernel.index('i')] * right[kernel.index('o')]
  count //= int(instruction.attribute(r'batch_group_count=(\d+)') or 1)
  for axis in filter(str.isdigit, images):
    count *= _overlaps(
      int(axis),
      left[images.index(axis)],
      right[kernel.index(axis)],
      out[results.index(axis)],
      instruction.attribute(r'window=\{(.*?)\}') or '',
    )
  return count


def _overlaps(axis: int, size: int, window: int, out: int, text: str) -> int:
  """Returns the number of products along an axis of a convolution.

  TPUs compute a batched matrix product as a convolution whose batch axes are
  spatial axes, dilated with zeros so that each window contains one element.
  """
  given = dict(setting.split('=') for setting in text.split())

  def setting(name, default):
    values = given.get(name)
    return values.split('x')[axis] if values else default

  position = (
    np.arange(out)[:, None] * int(setting('stride', 1))
    + np.arange(window) * int(setting('rhs_dilate', 1))
    - int(setting('pad', '0_0').split('_')[0])
  )
  dilation = int(setting('lhs_dilate', 1))
  is_inside = (position >= 0) & (position <= (size - 1) * dilation)
  return int(np.sum(is_inside & (position % dilation == 0)))


def _moved(
  program: hlo.Program, instruction: hlo.Instruction, computation: str
) -> int:
  """Returns the bytes that a scheduled instruction moves to and from HBM."""
  computation = program.computations[computation]
  operation, operands = instruction.operation, instruction.operands
  if (
    operation in _FREE + hlo.CONTROL_FLOW
    or operation.endswith('-start')  # Counted at the matching `-done`.
    or any(target in instruction.attributes for target in _FREE_CALLS)
  ):
    return 0
  if operation.endswith('-done'):
    operands = computation[operands[0]].operands
  read = sum(
    _read(program, instruction, position, _size(computation[name], in_hbm=True))
    for position, name in enumerate(operands)
  )
  sizes = _written(program, computation, instruction)
  return read + sum(
    size
    for size, array in zip(sizes, instruction.arrays, strict=True)
    if array.in_hbm
  )


def _size(instruction: hlo.Instruction, in_hbm: bool = False) -> int:
  return sum(
    array.padded_bytes
    for array in instruction.arrays
    if array.in_hbm or not in_hbm
  )


def _read(
  program: hlo.Program, instruction: hlo.Instruction, position: int, size: int
) -> int:
  """Returns the bytes read from an operand of `size` bytes."""
  operation = instruction.operation
  if operation in _SLICES and position == 0:
    return min(size, _size(instruction))
  if operation == 'dynamic-update-slice' and position == 0:
    return 0
  if operation != 'fusion':
    return size
  inside = program.computations[instruction.called[0]]
  parameter = next(
    name
    for name, each in inside.items()
    if each.operation == 'parameter' and int(each.literal) == position
  )
  return _read_inside(program, inside, parameter, size)


def _read_inside(
  program: hlo.Program, computation: hlo.Computation, name: str, size: int
) -> int:
  """Returns the bytes that the instructions of a fusion read from an array."""
  total = 0
  for user, instruction in computation.items():
    for position, operand in enumerate(instruction.operands):
      if operand != name or instruction.operation == 'tuple':
        continue
      if instruction.operation == 'bitcast':
        total += _read_inside(program, computation, user, size)
      else:
        total += _read(program, instruction, position, size)
  return min(total, size)


def _written(
  program: hlo.Program,
  computation: hlo.Computation,
  instruction: hlo.Instruction,
) -> list[int]:
  """Returns the bytes written to each array of an instruction's result."""
  operands = [computation[name] for name in instruction.operands]
  match instruction.operation:
    case 'tuple':
      parts = [_written(program, computation, operand) for operand in operands]
      return sum(parts, [])
    case 'bitcast':
      return _written(program, computation, operands[0])
    case 'dynamic-update-slice':
      return [_size(operands[1])]
    case 'fusion':
      inside = program.computations[instruction.called[0]]
      root = next(each for each in inside.values() if each.is_root)
      return _written(program, inside, root)
  return [array.padded_bytes for array in instruction.arrays]
