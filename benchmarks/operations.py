"""Lists the operations of a training step by the time that they take.

  python benchmarks/operations.py --model=ViT-L/16 --batch=256 --dtype=bfloat16

Records some steps with JAX's profiler and adds up the events of the first
device, by kind and by the module of the model that they belong to. `--save`
keeps the trace and the compiled program in a folder. Needs no TensorFlow.
"""

import argparse
import collections
from collections.abc import Iterator, Mapping
import contextlib
import gzip
import json
import os
import pathlib
import re
import shutil
import tempfile

import jax

import ours
import timing

# Kinds by a pattern of a kernel's or operation's name; the first that matches.
KINDS = {
  'convolutions': r'conv(?!ert)|implicit|fprop_optimized|wgrad|dgrad|nhwc',
  'attention': r'sdpa|flash|fmha|dot_do_o|convert_dq',
  'matrix products': r'gemm|nvjet|cutlass|cublas|\bdot|xmma',
  'reductions': r'reduce',
  'copies': r'copy|transpose|memcpy|memset|Memcpy|Memset',
  'element-wise': r'fusion|wrapped|loop|add|multiply|select|broadcast|convert',
}
# In a command buffer, kernels have no names of instructions.
os.environ['XLA_FLAGS'] = ' '.join(
  [os.environ.get('XLA_FLAGS', ''), '--xla_gpu_enable_command_buffer=']
)
_LINE = re.compile(r'%?([\w.-]+) = .*op_name="([^"]+)"')


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--model', default='ViT-B/16')
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument(
    '--dtype', default='float32', choices=('float32', 'bfloat16')
  )
  parser.add_argument('--scan', action='store_true')
  parser.add_argument('--steps', type=int, default=3)
  parser.add_argument('--rows', type=int, default=25)
  parser.add_argument('--save', type=pathlib.Path)
  return parser.parse_args()


def modules(program: str) -> dict[str, str]:
  """Returns the module of each instruction in the text of an HLO program.

  Numbers of blocks are left out; gradients are marked as such.
  """
  found = {}
  for name, path in _LINE.findall(program):
    parts = re.sub(r'(encoderblock)_\d+', r'\1', path).split('/')
    inner = [part for part in parts if re.match(r'[A-Za-z]\w*$', part)]
    inner = [part for part in inner if part not in ('jit', 'while', 'body')]
    module = '/'.join(inner[-3:]) or path
    found[name] = module + (' (gradient)' if 'transpose(' in path else '')
  return found


def events(trace: Mapping) -> Iterator[tuple[str, str, float]]:
  """Yields name, HLO instruction and µs of the events on the first device.

  Args:
    trace: a trace in Chrome's format, as JAX's profiler writes it.
  """
  names = {
    event['pid']: event['args']['name']
    for event in trace['traceEvents']
    if event.get('name') == 'process_name'
  }
  devices = sorted(pid for pid, name in names.items() if 'GPU:' in name)
  place = devices[0] if devices else None
  for event in trace['traceEvents']:
    if event.get('ph') != 'X' or 'hlo_op' not in event.get('args', {}):
      continue
    if place is None or event['pid'] == place:
      yield event['name'], event['args']['hlo_op'], event['dur']


def kind_of(name: str) -> str:
  """Returns the kind of a kernel, one of KINDS or 'other'."""
  for kind, pattern in KINDS.items():
    if re.search(pattern, name):
      return kind
  return 'other'


def _record(options) -> tuple[str, dict]:
  """Returns the program's text and the trace of some of its steps."""
  init, step = ours.training(
    options.model,
    image_size=options.image_size,
    scan=options.scan,
    dtype=options.dtype,
  )
  batch = ours.batch(options.batch, options.image_size)
  state = jax.jit(init)()
  compiled = ours.compile_step(
    jax.jit(step, donate_argnums=0).lower(state, batch)
  )
  state, _ = compiled(state, batch)
  with contextlib.ExitStack() as stack:
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    jax.block_until_ready(state)
    with jax.profiler.trace(folder):
      for _ in range(options.steps):
        state, _ = compiled(state, batch)
      jax.block_until_ready(state)
    (path,) = folder.rglob('*.trace.json.gz')
    trace = json.loads(gzip.decompress(path.read_bytes()))
    if options.save:
      options.save.mkdir(parents=True, exist_ok=True)
      shutil.copy(path, options.save / 'trace.json.gz')
      text = gzip.compress(compiled.as_text().encode())
      (options.save / 'program.txt.gz').write_bytes(text)
  return compiled.as_text(), trace


def _show(title, microseconds, steps, rows) -> None:
  total = sum(microseconds.values())
  ranked = sorted(microseconds.items(), key=lambda item: -item[1])[:rows]
  timing.show(
    [title, 'ms per step', 'share'],
    [
      [name, f'{value / steps / 1000:.2f}', f'{value / total:.1%}']
      for name, value in [*ranked, ('all', total)]
    ],
  )


def main() -> None:
  """Prints two tables."""
  options = _options()
  print(timing.describe_machine())
  program, trace = _record(options)
  module_of = modules(program)
  by_kind, by_module = collections.Counter(), collections.Counter()
  for name, instruction, duration in events(trace):
    kind = kind_of(name)
    by_kind[kind] += duration
    by_module[f'{kind}: {module_of.get(instruction, instruction)}'] += duration
  print(f'step of {options.model}, {options.batch} images, {options.dtype}')
  _show('kind', by_kind, options.steps, options.rows)
  _show('kind and module', by_module, options.steps, options.rows)


if __name__ == '__main__':
  main()
