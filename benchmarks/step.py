"""Compares a forward pass and a training step with those of peers.

  python benchmarks/step.py --models=ViT-Ti/16,ViT-S/16
  python benchmarks/step.py --models=ViT-B/16 --batch=256 --dtype=bfloat16
  python benchmarks/step.py --guard=1.0
  python benchmarks/step.py --peers= --before=CHECKOUT

Peers are the ViTs of Hugging Face and timm on PyTorch, eager and compiled, if
installed. Each candidate runs in its own process, ours set up as for training;
calls alternate between them. With `--before`, ours in another checkout of this
repository is a candidate too. With `--alone`, they run one after another
instead, each with the whole memory of a GPU; the table then has the seconds
until the end of the first call, compilation included, and the peak memory.

Prints medians and ranges in ms, the ratio to our median, and the FLOP rate as a
share of that of a large matrix product on the same machine; a step counts as
three forward passes. With `--guard=RATIO`, fails if our training step takes
longer than RATIO times that of the fastest peer. Needs no TensorFlow.
"""

import argparse
from collections.abc import Callable
import contextlib
import functools
import json
import os
import pathlib
import re
import resource
import statistics
import sys
import time

import jax

import ours
import peers
import timing
from vit_jax.distributed import compilation, cpu
from vit_jax.models import flops

OURS, SCAN, BEFORE = 'vit_jax', 'vit_jax, scan', 'vit_jax, before'
_PASSED_ON = (
  'image_size',
  'batch',
  'forward_batch',
  'dtype',
  'remat',
  'repetitions',
)

# The processes of all candidates share the memory of a GPU.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--models', default='ViT-Ti/16,ViT-S/16')
  parser.add_argument('--work', default='forward,step')
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--forward_batch', type=int, default=8)
  parser.add_argument(
    '--dtype', default='float32', choices=('float32', 'bfloat16')
  )
  parser.add_argument('--device', choices=('cpu', 'gpu'))
  parser.add_argument(
    '--scan',
    action='store_true',
    help='Also run ours as a scan over encoder blocks.',
  )
  parser.add_argument('--remat', default='none')
  parser.add_argument('--repetitions', type=int, default=7)
  parser.add_argument(
    '--peers', help='Separated by commas; default: all that import.'
  )
  parser.add_argument('--before', type=pathlib.Path, help='Another checkout.')
  parser.add_argument('--alone', action='store_true')
  parser.add_argument('--guard', type=float)
  parser.add_argument('--only', help=argparse.SUPPRESS)  # In a child process.
  return parser.parse_args()


def _our_forward(options, name):
  params = jax.jit(
    functools.partial(
      ours.random_params, name, options.image_size, options.only == SCAN
    )
  )()
  model = ours.create(name, scan=options.only == SCAN, dtype=options.dtype)
  images = ours.batch(options.forward_batch, options.image_size)['image']
  forward = compilation.jit(
    lambda params, x: model.apply({'params': params}, x, tokens=False)[0],
    jax.local_devices()[0],
  )
  return lambda: jax.block_until_ready(forward(params, images))


def _our_step(options, name):
  init, step = ours.training(
    name,
    image_size=options.image_size,
    scan=options.only == SCAN,
    remat=options.remat,
    dtype=options.dtype,
  )
  batch = ours.batch(options.batch, options.image_size)
  state = jax.jit(init)()
  lowered = jax.jit(step, donate_argnums=0).lower(state, batch)
  step = ours.compile_step(lowered)

  def call():
    nonlocal state
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))

  return call


_OURS = {'forward': _our_forward, 'step': _our_step}


def _batch_size(options, work):
  return options.batch if work == 'step' else options.forward_batch


def _work(options) -> Callable[[], object]:
  """Returns the work of the candidate of this child process."""
  if options.only in (OURS, SCAN):
    cpu.prepare()
    return _OURS[options.work](options, options.models)
  return peers.step(
    options.only,
    options.models,
    image_size=options.image_size,
    batch_size=_batch_size(options, options.work),
    dtype=options.dtype,
    device=jax.default_backend(),
    train=options.work == 'step',
  )


def _peak_bytes(options) -> int:
  """Returns the peak memory of this process, on its device."""
  if jax.default_backend() == 'cpu':
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  if options.only in (OURS, SCAN):
    return jax.local_devices()[0].memory_stats()['peak_bytes_in_use']
  return peers.peak_bytes()


def _run_alone(options) -> None:
  """Prints the measurements of a candidate as JSON."""
  begin = time.perf_counter()
  try:
    call = _work(options)
    call()
    first = time.perf_counter() - begin
    seconds = timing.alternate({'': call}, repetitions=options.repetitions)['']
  except Exception as e:
    if not re.search('RESOURCE_EXHAUSTED|out of memory', str(e)):
      raise
    print(json.dumps(None))
    return
  peak = _peak_bytes(options)
  print(json.dumps({'first': first, 'peak': peak, 'seconds': seconds}))


def _command(options, candidate) -> tuple[str, str]:
  """Returns the script of a candidate, and the argument that selects it."""
  if candidate == BEFORE:
    return str(options.before / 'benchmarks/step.py'), f'--only={OURS}'
  return __file__, f'--only={candidate}'


def _measure_alone(options, candidates, arguments):
  """Returns seconds by candidate that fits, and the cells of `--alone`."""
  seconds, cells = {}, {}
  for candidate in candidates:
    command = _command(options, candidate)
    text = timing.run_in_child(*command, *arguments)
    measured = json.loads(text.splitlines()[-1])
    if measured is None:
      print(f'{candidate}: out of memory')
      continue
    seconds[candidate] = measured['seconds']
    gib = measured['peak'] / 2**30
    cells[candidate] = [f'{measured["first"]:.1f}', f'{gib:.1f}']
  return seconds, cells


def _measure_together(options, candidates, arguments):
  """Returns the seconds of alternating calls, by candidate."""
  with contextlib.ExitStack() as stack:
    workers = {
      candidate: stack.enter_context(
        timing.Worker(*_command(options, candidate), *arguments)
      )
      for candidate in candidates
    }
    return timing.alternate(workers, repetitions=options.repetitions), {}


def _compare(options, name, work, peak) -> float:
  """Prints a table; returns the ratio to the fastest peer, 0 without peers."""
  names = peers.installed()
  if options.peers is not None:
    names = [peer for peer in options.peers.split(',') if peer]
  if options.guard and not names:
    sys.exit('--guard needs a peer: install transformers and torch.')
  arguments = [f'--models={name}', f'--work={work}']
  for key in _PASSED_ON:
    arguments.append(f'--{key}={getattr(options, key)}')
  if options.device:
    arguments.append(f'--device={options.device}')
  if options.alone:
    arguments.append('--alone')
  candidates = [OURS, *([SCAN] if options.scan else [])]
  candidates += [*([BEFORE] if options.before else []), *names]
  measure = _measure_alone if options.alone else _measure_together
  seconds, cells = measure(options, candidates, arguments)
  is_step, batch_size = work == 'step', _batch_size(options, work)
  operations = flops.forward(
    ours.create(name), (options.image_size, options.image_size)
  )
  operations *= batch_size * (3 if is_step else 1)
  print(
    f'{work} {name}, {batch_size} images of {options.image_size} px,'
    f' {options.dtype}; matrix product: {peak / 1e9:.0f} GFLOP/s'
  )
  median = {name: statistics.median(times) for name, times in seconds.items()}
  rows = [
    [
      *timing.time_row(candidate, times, seconds.get(OURS, times)),
      f'{operations / median[candidate] / peak:.1%}',
      f'{batch_size / median[candidate]:.1f}',
      *cells.get(candidate, []),
    ]
    for candidate, times in seconds.items()
  ]
  head = ['', 'ms', 'lowest', 'highest', 'ratio', 'of peak', 'images/s']
  if options.alone:
    head += ['first call, s', 'peak GiB']
  timing.show(head, rows)
  fastest = min((median[peer] for peer in names if peer in median), default=0)
  return median[OURS] / fastest if fastest and OURS in median else 0.0


def main() -> None:
  """Compares all models."""
  options = _options()
  if options.device:
    jax.config.update('jax_platforms', options.device.replace('gpu', 'cuda'))
  if options.only and options.alone:
    _run_alone(options)
    return
  if options.only:
    timing.serve(_work(options))
    return
  print(timing.describe_machine())
  peak = timing.matmul_peak(options.dtype)
  too_slow = []
  for name in options.models.split(','):
    for work in options.work.split(','):
      ratio = _compare(options, name, work, peak)
      if work == 'step' and options.guard and ratio > options.guard:
        too_slow.append(f'{name}: {ratio:.3f} times the fastest peer')
  if too_slow:
    sys.exit(f'slower than --guard={options.guard}: {"; ".join(too_slow)}')


if __name__ == '__main__':
  main()
