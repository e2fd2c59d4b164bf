"""How long a training step takes to trace, lower and compile, and its memory.

  python benchmarks/compile.py --model=ViT-L/16

Unrolled and as a scan over blocks, and the peers of step.py that compile, each
in a process of its own and without a compilation cache, in turns. Of this
package's step nothing is run. Prints medians and spread in seconds; peak is
that of the process's memory, import included, temporaries what the compiler
says that the step needs. Needs no TensorFlow.
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

_OWN = ('unrolled', 'scan')
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
    help='Separated by commas; all that compile and import unless set.',
  )
  parser.add_argument('--only', help=argparse.SUPPRESS)  # In a child process.
  return parser.parse_args()


def _compile_own(options) -> dict[str, float]:
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
  found = {
    phase: end - begin
    for phase, begin, end in zip(_PHASES, marks, marks[1:], strict=False)
  }
  return found | {'temporaries': memory.temp_size_in_bytes}


def _compile_peer(options) -> dict[str, float]:
  """The first step, less the second: a peer compiles when it runs."""
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
  found = (_compile_own if options.only in _OWN else _compile_peer)(options)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  print(json.dumps(found | {'peak': peak}))


def main() -> None:
  """Compares all, or compiles one in a child process."""
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
  runs = {name: [] for name in (*_OWN, *names)}
  for _ in range(options.repetitions):
    for name, found in runs.items():
      text = timing.in_process_of_its_own(
        __file__,
        f'--only={name}',
        *arguments,
        JAX_ENABLE_COMPILATION_CACHE='false',
        TORCHINDUCTOR_FORCE_DISABLE_CACHES='1',
      )
      found.append(json.loads(text.splitlines()[-1]))
  totals = {
    name: [sum(run.get(phase, 0) for phase in _PHASES) for run in found]
    for name, found in runs.items()
  }
  rows = []
  for name, found in runs.items():
    total = totals[name]
    middle = {
      key: statistics.median(run[key] for run in found) for key in found[0]
    }
    rows.append(
      [
        name,
        *(f'{middle[p]:.2f}' if p in middle else '-' for p in _PHASES),
        *(f'{s:.2f}' for s in (statistics.median(total), *_ends(total))),
        f'{statistics.median(total) / statistics.median(totals["scan"]):.2f}',
        *(
          f'{middle[key] / 2**30:.2f}' if key in middle else '-'
          for key in ('peak', 'temporaries')
        ),
      ]
    )
  head = ['', *_PHASES, 'in all', 'lowest', 'highest', 'ratio']
  timing.show([*head, 'peak GiB', 'temporaries GiB'], rows)


def _ends(values):
  return min(values), max(values)


if __name__ == '__main__':
  main()
