"""Times candidates side by side, and relative to the machine's peak rate.

Candidates alternate, A B A B, so that other load on the machine affects all of
them. Medians are compared; the range is from the lowest to the highest time.
"""

from collections.abc import Callable, Mapping, Sequence
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import Any

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
  """Times alternating calls of the candidates.

  Args:
    candidates: functions by name; each returns when its work is done.
    repetitions: timed calls of each.
    warm_up: earlier calls of each, which are not timed.

  Returns:
    The seconds of each call, by candidate.
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
  """Returns the operations per second of a large matrix product, at best."""
  size = 2048 if jax.default_backend() == 'cpu' else 8192
  x = jax.random.normal(jax.random.key(0), (size, size), dtype)
  product = jax.jit(jnp.dot)
  call = {'': lambda: jax.block_until_ready(product(x, x))}
  return 2 * size**3 / min(alternate(call, repetitions=repetitions)[''])


def row(
  name: str,
  values: Sequence[float],
  reference: Sequence[float],
  digits: int = 1,
) -> list[str]:
  """Formats name, median, range, and ratio to the reference's median."""
  median = statistics.median(values)
  return [
    name,
    *(f'{value:.{digits}f}' for value in (median, min(values), max(values))),
    f'{median / statistics.median(reference):.3f}',
  ]


def time_row(
  name: str,
  seconds: Sequence[float],
  reference: Sequence[float],
  digits: int = 1,
) -> list[str]:
  """Formats a `row` of seconds in ms."""
  ms, reference_ms = ([1000 * s for s in x] for x in (seconds, reference))
  return row(name, ms, reference_ms, digits)


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
  """Prints a table; columns after the first are right-aligned."""
  table = [head, *rows]
  widths = [max(map(len, column)) for column in zip(*table, strict=True)]
  for first, *others in table:
    cells = [first.ljust(widths[0])]
    cells += [c.rjust(w) for c, w in zip(others, widths[1:], strict=True)]
    print('  '.join(cells).rstrip())
  print(flush=True)


def describe_machine() -> str:
  """Describes devices, version, and the load before the benchmark."""
  device = jax.devices()[0]
  return (
    f'{jax.device_count()} x {device.device_kind}, {os.cpu_count()} CPU cores'
    f' (load {os.getloadavg()[0]:.1f} before), jax {jax.__version__}'
  )


def environment(**values: str) -> dict[str, str]:
  """Returns environment variables for a child that imports this package."""
  return os.environ | {'PYTHONPATH': str(ROOT)} | values


def _in_checkout(script: str, **values: str) -> dict[str, Any]:
  """Returns the folder and environment of a script: those of its checkout."""
  root = pathlib.Path(script).resolve().parents[1]
  return {'cwd': root, 'env': environment(PYTHONPATH=str(root), **values)}


class Worker:
  """A child process that does its work when called and idles otherwise.

  It gives a candidate its own memory and threads. Use it in a `with` statement.
  """

  def __init__(self, script: str, *arguments: str):
    """Starts a script that passes its work to `serve`."""
    self._process = subprocess.Popen(
      [sys.executable, script, *arguments],
      **_in_checkout(script),
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
    """Runs the work once and waits for it.

    Raises:
      RuntimeError: if it fails; its error is on stderr.
    """
    self._process.stdin.write('\n')
    self._process.stdin.flush()
    if self._process.stdout.readline() != _DONE:
      raise RuntimeError(f'{" ".join(self._process.args)} failed.')


def serve(work: Callable[[], object]) -> None:
  """Runs `work` in a child process whenever its `Worker` is called."""
  for _ in sys.stdin:
    work()
    sys.stdout.write(_DONE)
    sys.stdout.flush()


def run_in_child(script: str, *arguments: str, **values: str) -> str:
  """Runs a script with environment variables set; returns its output."""
  finished = subprocess.run(
    [sys.executable, script, *arguments],
    **_in_checkout(script, **values),
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return finished.stdout
