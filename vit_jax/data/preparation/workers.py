"""Worker processes, and threads that read ahead."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from typing import TypeVar

from vit_jax import foreign_errors

_A = TypeVar('_A')
_B = TypeVar('_B')
Run = Callable[[Callable[..., _B], Iterable[tuple]], Iterator[_B]]

_THREADS = 16  # They mostly wait for the file system.
_READ_AHEAD = 32  # Items.


@contextlib.contextmanager
def start(count: int) -> Iterator[Run]:
  """Starts worker processes.

  Args:
    count: number of processes; 1 means that this process does the work.

  Yields:
    A function that calls a function with each tuple of arguments, and yields
    the results in any order. Both must be picklable.
  """
  if count == 1:
    yield lambda function, tasks: (_call(function, task) for task in tasks)
    return
  executor = futures.ProcessPoolExecutor(
    count, multiprocessing.get_context('spawn'), _initialize
  )
  try:
    yield functools.partial(_run, executor, count)
  finally:
    executor.shutdown(cancel_futures=True)


def _run(
  executor: futures.Executor,
  count: int,
  function: Callable[..., _B],
  tasks: Iterable[tuple],
) -> Iterator[_B]:
  pending = set()
  try:
    for task in tasks:
      pending.add(executor.submit(_call, function, task))
      if len(pending) >= 2 * count:  # Tasks may be large.
        done, pending = futures.wait(
          pending, return_when=futures.FIRST_COMPLETED
        )
        yield from (future.result() for future in done)
    yield from (future.result() for future in futures.as_completed(pending))
  except BrokenProcessPool as error:
    raise OSError(
      'a worker process was killed, probably because the host ran out of'
      f' memory; try a smaller prepare.workers (it was {count})'
    ) from error


def _call(function: Callable[..., _B], task: tuple) -> _B:
  try:
    return function(*task)
  except Exception as error:
    if foreign_errors.is_foreign(error):  # Such an error cannot be pickled.
      raise OSError(foreign_errors.message(error)) from error
    raise


def _initialize() -> None:
  """Prepares a worker: it exits with its parent, and uses one CPU."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent handles Ctrl-C.
  threading.Thread(target=_exit_with_parent, daemon=True).start()
  os.environ |= {  # TensorFlow reads them when it is imported.
    'TF_NUM_INTRAOP_THREADS': '1',
    'TF_NUM_INTEROP_THREADS': '1',
    'TF_CPP_MIN_LOG_LEVEL': '3',  # It would log every damaged image.
  }


def _exit_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)


def read_ahead(
  read: Callable[[_A], _B], items: Iterable[_A]
) -> Iterator[tuple[_A, _B]]:
  """Yields every item with the result of `read`, in order.

  Threads read the next items meanwhile.
  """
  pending = collections.deque()
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    for item in items:
      pending.append((item, pool.submit(read, item)))
      if len(pending) > _READ_AHEAD:
        item, future = pending.popleft()
        yield item, future.result()
    for item, future in pending:
      yield item, future.result()
