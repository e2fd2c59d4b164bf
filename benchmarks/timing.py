"""Times candidates side by side, and tells them beside the machine's best.

Candidates take turns, A B A B, so that whatever else the machine does, it does
to all of them. Medians are compared; the spread is from the lowest to the
highest time.
"""

from collections.abc import Callable, Mapping, Sequence
import os
import pathlib
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp

_DONE = 'done\n'
ROOT = pathlib.Path(__file__).resolve().parents[1]


def alternate(
  candidates: Mapping[str, Callable[[], object]],
  *,
  repetitions: int,
  warm_up: int = 1,
) -> dict[str, list[float]]:
  """Seconds of calls of each candidate, in turns.

  Args:
    candidates: by name; each returns when its work is done.
    repetitions: calls of each that count.
    warm_up: calls of each before, that do not.
  """
  seconds = {name: [] for name in candidates}
  for repetition in range(-warm_up, repetitions):
    for name, call in candidates.items():
      begin = time.perf_counter()
      call()
      if repetition >= 0:
        seconds[name].append(time.perf_counter() - begin)
  return seconds


def matmul_peak(dtype: str, *, repetitions: int = 10) -> float:
  """Operations a second of the fastest of some large square products."""
  size = 2048 if jax.default_backend() == 'cpu' else 8192
  x = jax.random.normal(jax.random.key(0), (size, size), dtype)
  product = jax.jit(jnp.dot)
  call = {'': lambda: jax.block_until_ready(product(x, x))}
  return 2 * size**3 / min(alternate(call, repetitions=repetitions)[''])


def row(
  name: str, values: Sequence[float], reference: Sequence[float]
) -> list[str]:
  """Name, median, lowest, highest, and the ratio to a reference's median."""
  median = statistics.median(values)
  return [
    name,
    *(f'{value:.1f}' for value in (median, min(values), max(values))),
    f'{median / statistics.median(reference):.3f}',
  ]


def time_row(
  name: str, seconds: Sequence[float], reference: Sequence[float]
) -> list[str]:
  """The same in ms, of seconds."""
  return row(name, [1000 * s for s in seconds], [1000 * s for s in reference])


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
  """Prints a table; all but its first column to the right."""
  table = [head, *rows]
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  for first, *others in table:
    cells = [first.ljust(widths[0])]
    cells += [c.rjust(w) for c, w in zip(others, widths[1:], strict=True)]
    print('  '.join(cells).rstrip())
  print(flush=True)


def describe_machine() -> str:
  """Devices and versions, and what else the processors are doing."""
  device = jax.devices()[0]
  return (
    f'{jax.device_count()} x {device.device_kind}, {os.cpu_count()} CPU cores'
    f' (load {os.getloadavg()[0]:.1f} before), jax {jax.__version__}'
  )


def environment(**values: str) -> dict[str, str]:
  """That of a child process, which finds this package."""
  return os.environ | {'PYTHONPATH': str(ROOT)} | values


class Worker:
  """A child process that works whenever it is called, and idles between.

  So each candidate has memory and threads to itself. To be used in `with`.
  """

  def __init__(self, script: str, *arguments: str):
    """Starts a script that gives its work to `serve`."""
    self._process = subprocess.Popen(
      [sys.executable, script, *arguments],
      cwd=ROOT,
      env=environment(),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def __enter__(self) -> 'Worker':
    return self

  def __exit__(self, *unused) -> None:
    self._process.stdin.close()
    self._process.wait()

  def __call__(self) -> None:
    """Lets it work once, and waits for it.

    Raises:
      RuntimeError: if it failed; what it said is on stderr.
    """
    self._process.stdin.write('\n')
    self._process.stdin.flush()
    if self._process.stdout.readline() != _DONE:
      raise RuntimeError(f'{" ".join(self._process.args)} failed.')


def serve(work: Callable[[], object]) -> None:
  """Works as often as the process that started this one as a `Worker` asks."""
  for _ in sys.stdin:
    work()
    sys.stdout.write(_DONE)
    sys.stdout.flush()


def in_process_of_its_own(script: str, *arguments: str, **values: str) -> str:
  """Runs a script with environment variables; returns what it printed."""
  found = subprocess.run(
    [sys.executable, script, *arguments],
    cwd=ROOT,
    env=environment(**values),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return found.stdout
