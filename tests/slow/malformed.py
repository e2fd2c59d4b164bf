"""Malformed inputs: what each has to end in, and counts by kind."""

import collections
from collections.abc import Callable
import contextlib
import dataclasses
import resource
import signal

SECONDS = 60
MEMORY_BYTES = 4 << 30


@dataclasses.dataclass(frozen=True)
class Case:
  """A malformed input.

  Attributes:
    kind: what is wrong, for the counts.
    name: unique within the kind.
    write: writes the input into a folder and returns its path.
    ending: what is required: 'error', 'result', or 'any' of both.
  """

  kind: str
  name: str
  write: Callable
  ending: str = 'any'


class OutOfTimeError(BaseException):
  """The input took more than `SECONDS`."""


def check_message(error: Exception) -> None:
  """Checks that an error is one that a user can act on."""
  message = str(error)
  assert '\n' not in message, message
  assert len(message) < 1500, message
  assert 'allow_pickle' not in message, message
  assert 'NoneType' not in message, message


def run(cases, folder, use: Callable) -> collections.Counter:
  """Uses every input and counts the endings by kind; prints the counts.

  Args:
    cases: the inputs.
    folder: an empty folder.
    use: reads the input at a path and checks the result.

  Raises:
    AssertionError: lists all inputs that ended in any other way.
  """
  counts, failures = collections.Counter(), []
  for number, case in enumerate(cases):
    place = folder / str(number)
    place.mkdir()
    path = case.write(place)
    ending, problem = _ending(lambda path=path: use(path))
    counts[case.kind, ending] += 1
    if problem or case.ending not in ('any', ending):
      failures.append(f'{case.kind}, {case.name}: {problem or ending}')
  for (kind, ending), count in sorted(counts.items()):
    print(f'{kind:32} {ending:8} {count:4}')
  print(f'{"all":41} {counts.total():4}')
  assert not failures, '\n'.join([f'{len(failures)} failures', *failures])
  return counts


def _ending(use):
  try:
    with _limits():
      use()
    return 'result', None
  except (ValueError, OSError) as error:
    try:
      check_message(error)
    except AssertionError as problem:
      return 'error', f'{type(error).__name__}: {problem}'
    return 'error', None
  except (Exception, OutOfTimeError) as error:
    return 'failure', f'{type(error).__name__}: {error}'


@contextlib.contextmanager
def _limits():
  """Limits the time, and the memory beyond what the process has."""

  def stop(*unused):
    raise OutOfTimeError(f'more than {SECONDS} s')

  with open('/proc/self/statm') as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
  old = resource.getrlimit(resource.RLIMIT_AS)
  handler = signal.signal(signal.SIGALRM, stop)
  resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, old[1]))
  signal.alarm(SECONDS)
  try:
    yield
  finally:
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, old)
    signal.signal(signal.SIGALRM, handler)
