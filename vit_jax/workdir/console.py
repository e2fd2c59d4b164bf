"""Console output of a job: phases, tables, durations."""

from collections.abc import Iterator, Sequence
import contextlib
import logging
import time

from vit_jax import printing
from vit_jax.distributed import processes

_log = logging.getLogger(__name__)


def show(text: str) -> None:
  """Prints text to stdout, in process 0 only."""
  if processes.is_first():
    print(printing.printable(text, keep='\n'), flush=True)


@contextlib.contextmanager
def phase(what: str) -> Iterator[None]:
  """Logs the start and the duration of a slow phase."""
  _log.info('%s ...', what)
  begin = time.perf_counter()
  yield
  _log.info('%s took %.1f s', what, time.perf_counter() - begin)


def duration(seconds: float) -> str:
  """Formats a duration, such as 45s, 3m20s, 5h07m, 2d03h."""
  seconds = round(seconds)
  units = [(86400, 'd', 3600, 'h'), (3600, 'h', 60, 'm'), (60, 'm', 1, 's')]
  for size, name, part_size, part_name in units:
    if seconds >= size:
      part = seconds % size // part_size
      return f'{seconds // size}{name}{part:02d}{part_name}'
  return f'{seconds}s'


def table(rows: Sequence[Sequence[str]]) -> str:
  """Aligns columns: the first to the left, all others to the right.

  Cells are made printable.
  """
  rows = [list(map(printing.printable, row)) for row in rows]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = []
  for first, *others in rows:
    cells = [first.ljust(widths[0])]
    cells += [c.rjust(w) for c, w in zip(others, widths[1:], strict=True)]
    lines.append('  '.join(cells).rstrip())
  return '\n'.join(lines)
