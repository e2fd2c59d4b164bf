"""Measures the time from process start to the end of the first training step.

  python benchmarks/start.py [--before=CHECKOUT]

Runs configs/digits.py through the command line, once with an empty compilation
cache (cold), and once with the cache that this run has filled (warm). With
--before, runs another checkout of this repository in the same way. The peer is
Hugging Face's ViT on PyTorch, eager, with the same size and batch, and data
already in memory. Candidates alternate. Prints medians and ranges in seconds,
the median of CPU seconds, and when each phase of the log began in the last run
of each kind.

Exits with code 1 if a median exceeds --max_cold or --max_warm. The defaults are
for two cores without other load.
"""

import argparse
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import peers
import timing

PEER = 'hf'
# The closest to configs/digits.py that peers.create can build.
PEER_MODEL, PEER_IMAGE_SIZE = 'ViT-Ti/2', 8
_FIRST_STEP = 'first step'


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--config', default='configs/digits.py')
  parser.add_argument('--repetitions', type=int, default=5)
  parser.add_argument('--before', type=pathlib.Path, help='another checkout')
  parser.add_argument('--max_cold', type=float, default=10, help='seconds')
  parser.add_argument('--max_warm', type=float, default=5, help='seconds')
  parser.add_argument('--only', help=argparse.SUPPRESS)  # In a child process.
  return parser.parse_args()


def _our_command(options, workdir) -> list[str]:
  return [
    *('-m', 'vit_jax.main', f'--config={options.config}'),
    *(f'--workdir={workdir}', '--config.log_every=1'),
  ]


def _keep_programs(folder) -> dict[str, str]:
  # Older versions of this package only use JAX's variable. JAX treats an empty
  # one as unset.
  return {'VIT_JAX_CACHE': str(folder), 'JAX_COMPILATION_CACHE_DIR': ''}


def _keep_programs_before(folder) -> dict[str, str]:
  return {
    'JAX_COMPILATION_CACHE_DIR': str(folder),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
  }


def _time(
  command, environment, checkout
) -> tuple[float, float, list[tuple[float, str]]]:
  """Returns seconds to the end of the first step, CPU seconds, and the log."""
  lines = []
  begin, cpu_begin = time.perf_counter(), _cpu_seconds()
  process = subprocess.Popen(
    [sys.executable, *command],
    cwd=checkout,
    env=environment | {'PYTHONPATH': str(checkout)},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  with process:
    for line in process.stderr:
      lines.append((time.perf_counter() - begin, line.rstrip()))
      if _is_first_step(line):
        break
    process.kill()
  if not lines or not _is_first_step(lines[-1][1]):
    sys.exit('\n'.join(line for _, line in lines))
  return lines[-1][0], _cpu_seconds() - cpu_begin, lines


def _cpu_seconds() -> float:
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


def _is_first_step(line) -> bool:
  words = line.partition('step ')[2].split()
  return _FIRST_STEP in line or bool(words and words[0].startswith('1/'))


def main() -> None:
  """Compares starts, or runs the peer in a child process."""
  options = _options()
  if options.only:
    peers.step(
      options.only,
      PEER_MODEL,
      image_size=PEER_IMAGE_SIZE,
      batch_size=128,
      dtype='float32',
      device='cpu',
      train=True,
    )()
    print(_FIRST_STEP, file=sys.stderr, flush=True)
    return
  print(timing.describe_machine())
  seconds, cpu_seconds, logs = {}, {}, {}
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    for repetition in range(options.repetitions):
      runs = {}
      for kind in ('cold', 'warm'):
        command = _our_command(options, folder / f'{kind}{repetition}')
        programs = _keep_programs(folder / f'programs{repetition}')
        runs[kind] = command, programs, timing.ROOT
        if options.before:
          command = _our_command(options, folder / f'{kind}{repetition}_before')
          programs = _keep_programs_before(folder / f'before{repetition}')
          before = options.before.resolve()
          runs[f'{kind}, before'] = command, programs, before
      if PEER in peers.installed():
        runs[PEER] = [__file__, f'--only={PEER}'], {}, timing.ROOT
      for kind, (command, variables, checkout) in runs.items():
        environment = timing.environment(**variables)
        elapsed, used, logs[kind] = _time(command, environment, checkout)
        seconds.setdefault(kind, []).append(elapsed)
        cpu_seconds.setdefault(kind, []).append(used)
  rows = [
    timing.row(kind, s, seconds['warm'], digits=2)
    + [f'{statistics.median(cpu_seconds[kind]):.2f}']
    for kind, s in seconds.items()
  ]
  timing.show(['', 's', 'lowest', 'highest', 'ratio', 'CPU s'], rows)
  for kind in ('cold', 'warm'):
    print(kind)
    for at, line in logs[kind]:
      if line[:2].isdigit():  # Log lines start with the time of day.
        print(f'  {at:6.2f} s  {line[9:]}')
  limits = {'cold': options.max_cold, 'warm': options.max_warm}
  slow = [
    f'{kind} {median:.2f} s, limit {limit:g} s'
    for kind, limit in limits.items()
    if (median := statistics.median(seconds[kind])) > limit
  ]
  if slow:
    sys.exit(f'slow start: {"; ".join(slow)}')


if __name__ == '__main__':
  main()
