"""Measures the tracing, lowering and compilation of a training step.

  python benchmarks/compile.py --model=ViT-L/16

Compares the unrolled step, the scan over encoder blocks, and the peers of
step.py that compile. Candidates alternate, each in a process of its own and
without a compilation cache; the step of this package is compiled but not run.
Prints medians and ranges in seconds. `peak` is the peak memory of the process,
imports included; `temporaries` is the compiler's figure for the step. Needs no
TensorFlow.
"""

import argparse
import json
import resource
import statistics
import time

import jax

import ours
import peers
import timing

_OURS = ('unrolled', 'scan')
_PHASES = ('trace', 'lower', 'compile')


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--model', default='ViT-L/16')
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument(
    '--dtype', default='float32', choices=('float32', 'bfloat16')
  )
  parser.add_argument('--remat', default='none')
  parser.add_argument('--repetitions', type=int, default=3)
  parser.add_argument(
    '--peers',
    help='Separated by commas; default: all that compile and import.',
  )
  parser.add_argument('--only', help=argparse.SUPPRESS)  # In a child process.
  return parser.parse_args()


def _compile_ours(options) -> dict[str, float]:
  init, step = ours.training(
    options.model,
    image_size=options.image_size,
    scan=options.only == 'scan',
    remat=options.remat,
    dtype=options.dtype,
  )
  shapes = jax.eval_shape(
    lambda: (init(), ours.batch(options.batch, options.image_size))
  )
  marks = [time.perf_counter()]
  traced = jax.jit(step, donate_argnums=0).trace(*shapes)
  marks.append(time.perf_counter())
  lowered = traced.lower()
  marks.append(time.perf_counter())
  compiled = ours.compile_step(lowered)
  marks.append(time.perf_counter())
  memory = compiled.memory_analysis()
  seconds = {
    phase: end - begin
    for phase, begin, end in zip(_PHASES, marks, marks[1:], strict=False)
  }
  return seconds | {'temporaries': memory.temp_size_in_bytes}


def _compile_peer(options) -> dict[str, float]:
  """Times the first step minus the second: a peer compiles when it runs."""
  call = peers.step(
    options.only,
    options.model,
    image_size=options.image_size,
    batch_size=options.batch,
    dtype=options.dtype,
    device=jax.default_backend(),
    train=True,
  )
  first, second = timing.alternate({'': call}, repetitions=2, warm_up=0)['']
  return {'compile': first - second}


def _print_one(options) -> None:
  measure = _compile_ours if options.only in _OURS else _compile_peer
  measured = measure(options)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  print(json.dumps(measured | {'peak': peak}))


def main() -> None:
  """Compares all candidates, or compiles one in a child process."""
  options = _options()
  if options.only:
    _print_one(options)
    return
  names = [peer for peer in peers.installed() if peer.endswith('-compiled')]
  if options.peers is not None:
    names = [peer for peer in options.peers.split(',') if peer]
  print(timing.describe_machine())
  print(
    f'{options.model}, step of {options.batch} images of'
    f' {options.image_size} px, {options.dtype}'
  )
  arguments = [
    f'--{name}={value}'
    for name, value in vars(options).items()
    if name not in ('only', 'peers')
  ]
  runs = {name: [] for name in (*_OURS, *names)}
  for _ in range(options.repetitions):
    for name, measured in runs.items():
      text = timing.run_in_child(
        __file__,
        f'--only={name}',
        *arguments,
        JAX_ENABLE_COMPILATION_CACHE='false',
        TORCHINDUCTOR_FORCE_DISABLE_CACHES='1',
      )
      measured.append(json.loads(text.splitlines()[-1]))
  totals = {
    name: [sum(run.get(phase, 0) for phase in _PHASES) for run in measured]
    for name, measured in runs.items()
  }
  rows = []
  for name, measured in runs.items():
    total = totals[name]
    medians = {
      key: statistics.median(run[key] for run in measured)
      for key in measured[0]
    }
    rows.append(
      [
        name,
        *(f'{medians[p]:.2f}' if p in medians else '-' for p in _PHASES),
        *(f'{s:.2f}' for s in (statistics.median(total), *_ends(total))),
        f'{statistics.median(total) / statistics.median(totals["scan"]):.2f}',
        *(
          f'{medians[key] / 2**30:.2f}' if key in medians else '-'
          for key in ('peak', 'temporaries')
        ),
      ]
    )
  head = ['', *_PHASES, 'total', 'lowest', 'highest', 'ratio']
  timing.show([*head, 'peak GiB', 'temporaries GiB'], rows)


def _ends(values):
  return min(values), max(values)


if __name__ == '__main__':
  main()
