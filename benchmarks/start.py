"""Measures the time from process start to the end of the first training step.

  python benchmarks/start.py

Runs configs/digits.py through the command line, once with an empty compilation
cache (cold) and once with the cache of that run (warm). The peer is Hugging
Face's ViT on PyTorch, eager, with the same size and batch, and data already in
memory. Candidates alternate. Prints medians and ranges in seconds, and when
each phase of the log began in the last run of each kind.
"""

import argparse
import pathlib
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
  parser.add_argument('--repetitions', type=int, default=3)
  parser.add_argument('--only', help=argparse.SUPPRESS)  # In a child process.
  return parser.parse_args()


def _our_command(options, workdir) -> list[str]:
  return [
    *('-m', 'vit_jax.main', f'--config={options.config}'),
    *(f'--workdir={workdir}', '--config.log_every=1'),
  ]


def _time(command, environment) -> tuple[float, list[tuple[float, str]]]:
  """Returns seconds to the end of the first step, and the log with times."""
  lines = []
  begin = time.perf_counter()
  process = subprocess.Popen(
    [sys.executable, *command],
    cwd=timing.ROOT,
    env=environment,
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
  return lines[-1][0], lines


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
  seconds, logs = {}, {}
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    for repetition in range(options.repetitions):
      cache = {
        'JAX_COMPILATION_CACHE_DIR': str(folder / f'cache{repetition}'),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      }
      runs = {
        kind: (_our_command(options, folder / f'{kind}{repetition}'), cache)
        for kind in ('cold', 'warm')
      }
      if PEER in peers.installed():
        runs[PEER] = ([__file__, f'--only={PEER}'], {})
      for kind, (command, environment) in runs.items():
        elapsed, logs[kind] = _time(command, timing.environment(**environment))
        seconds.setdefault(kind, []).append(elapsed)
  rows = [
    [
      kind,
      *(f'{s:.2f}' for s in (statistics.median(s), min(s), max(s))),
      f'{statistics.median(s) / statistics.median(seconds["warm"]):.3f}',
    ]
    for kind, s in seconds.items()
  ]
  timing.show(['', 's', 'lowest', 'highest', 'ratio'], rows)
  for kind in ('cold', 'warm'):
    print(kind)
    for at, line in logs[kind]:
      if line[:2].isdigit():  # Log lines start with the time of day.
        print(f'  {at:6.2f} s  {line[9:]}')


if __name__ == '__main__':
  main()
