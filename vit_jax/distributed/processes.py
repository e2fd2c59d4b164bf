"""Multi-process runs: start, communication and failures.

Every process runs the same program on its own devices, connected by
`jax.distributed`. On Cloud TPU pods, under Slurm and Open MPI and in Kubernetes
jobs, JAX detects the processes; elsewhere, the arguments of `start` have to be
given. On CPUs, JAX communicates through gloo.
"""

from collections.abc import Callable
import json
import logging
import os
import re
import socket
import sys
import threading
from typing import Any, NoReturn
import warnings

import jax
from jax.experimental import multihost_utils
from jaxtyping import PyTree
import numpy as np

from vit_jax import foreign_errors

_log = logging.getLogger(__name__)

SINGLE_PROCESS = 'none'  # Value of `coordinator` that disables detection.


class StartError(OSError):
  """The processes could not connect."""


def start(
  *,
  coordinator: str = '',
  num_processes: int = 0,
  process_index: int = -1,
  start_timeout: float = 300,
  heartbeat_timeout: int = 100,
) -> None:
  """Connects the processes of a run; must be called before any device is used.

  Arguments that are not given are taken from JAX_COORDINATOR_ADDRESS,
  JAX_NUM_PROCESSES and JAX_PROCESS_ID, or detected from the cluster. If nothing
  indicates other processes, the run has a single one.

  Args:
    coordinator: HOST:PORT at which process 0 listens; SINGLE_PROCESS to disable
      detection.
    num_processes: number of processes of the run; 0 if not given.
    process_index: index of this process; -1 if not given.
    start_timeout: seconds to wait for all processes.
    heartbeat_timeout: seconds without a heartbeat of a process after which all
      others exit.

  Raises:
    ValueError: if the arguments are incomplete or inconsistent.
    StartError: if the processes cannot be connected. After the timeout, this
      process exits with a message.
  """
  if coordinator == SINGLE_PROCESS:
    return
  address = coordinator or os.environ.get('JAX_COORDINATOR_ADDRESS')
  number = num_processes or _from_environment('JAX_NUM_PROCESSES')
  index = process_index
  if index < 0:
    index = _from_environment('JAX_PROCESS_ID')
  _check(address, number, index)
  settings = {
    'distributed.coordinator': address,
    'distributed.num_processes': number,
    'distributed.process_index': index,
  }
  known = {name: x for name, x in settings.items() if x is not None}
  described = ', '.join(f'{name}={value}' for name, value in known.items())
  described = described or 'detected from the cluster'
  if address and index == 0:
    _check_port(int(address.rpartition(':')[2]))
  try:
    _initialize(
      {
        'coordinator_address': address,
        'num_processes': number,
        'process_id': index,
        'heartbeat_timeout_seconds': heartbeat_timeout,
      },
      start_timeout,
      lambda: _explain_timeout(described, address, start_timeout),
    )
  except Exception as error:  # Cluster detection raises many types.
    if isinstance(error, ValueError) and 'defined' in str(error):
      if not known:
        return
      missing = ' and '.join(name for name in settings if name not in known)
      raise ValueError(
        f'got {described}, but not {missing}, and JAX detects no cluster that'
        ' provides it; give all three to every process, or none for a run with'
        ' a single process.'
      ) from error
    raise StartError(
      f'the processes could not connect ({described}): {error}. For a run'
      f' with a single process, set distributed.coordinator={SINGLE_PROCESS}.'
    ) from error
  _log.info(
    'process %d of %d, with %d of %d devices',
    jax.process_index(), jax.process_count(), jax.local_device_count(),
    jax.device_count(),
  )  # fmt: skip


def _from_environment(name: str) -> int | None:
  value = os.environ.get(name)
  if value is None:
    return None
  if not value.isdigit():
    raise ValueError(f'environment variable {name}={value!r} is not a number.')
  return int(value)


def _check(address, number, index) -> None:
  if address is not None and not re.fullmatch(r'\S+:\d+', address):
    raise ValueError(
      f'the coordinator address {address!r} is not of the form HOST:PORT, such'
      ' as 10.0.0.2:8476, with the host of process 0 and any free port.'
    )
  if None not in (number, index) and index >= number:
    raise ValueError(
      f'invalid process index {index} for {number} processes; expected 0 to'
      f' {number - 1}.'
    )


def _check_port(port: int) -> None:
  """Checks that the port is free, since JAX would crash otherwise."""
  try:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    socket.create_server(('', port), family=family, dualstack_ipv6=both).close()
  except OSError as error:
    raise StartError(
      f'process 0 cannot listen on port {port} of distributed.coordinator'
      f' ({error}); choose another port, for all processes.'
    ) from error


def _initialize(arguments, timeout: float, explain: Callable[[], str]) -> None:
  """Starts `jax.distributed`, or exits this process after a timeout.

  An exception is not possible: JAX waits in native code, which aborts with a
  stack trace after its own timeout.
  """

  def give_up():
    print(f'error: {explain()}', file=sys.stderr)
    exit_now(1)

  watchdog = threading.Timer(timeout, give_up)
  watchdog.daemon = True
  watchdog.start()
  try:
    with warnings.catch_warnings():
      # JAX recommends a package whenever it runs on Kubernetes.
      warnings.filterwarnings('ignore', message='Kubernetes environment')
      jax.distributed.initialize(
        **arguments, initialization_timeout=int(timeout) + 60
      )
  finally:
    watchdog.cancel()


def _explain_timeout(
  described: str, address: str | None, timeout: float
) -> str:
  reason = (
    'some processes are missing; start them with the same keys, or set'
    f' distributed.coordinator={SINGLE_PROCESS} for a run with a single process'
  )
  if address:
    host, _, port = address.rpartition(':')
    try:
      socket.create_connection((host.strip('[]'), int(port)), timeout=5).close()
    except OSError as error:
      reason = (
        f'no answer from {address} ({error}); check the address, the firewall,'
        ' and that process 0 is running'
      )
  return (
    f'not all processes connected within {timeout:g} s ({described}): {reason}.'
  )


def is_multiprocess() -> bool:
  """Returns whether the run has several processes."""
  # Without the first test, `process_count` would initialize the devices.
  return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
  """Returns whether this is process 0, which logs and writes files."""
  return not is_multiprocess() or jax.process_index() == 0


def wait_for_all(name: str) -> None:
  """Waits until all processes have reached the barrier with this name."""
  if is_multiprocess():
    multihost_utils.sync_global_devices(name)


def from_first(make: Callable[[], Any]) -> Any:
  """Returns, in all processes, the JSON value of `make()` in process 0."""
  if not is_multiprocess():
    return make()
  text = json.dumps(make()).encode() if is_first() else b''
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  content = np.frombuffer(text.ljust(length), np.uint8)
  content = multihost_utils.broadcast_one_to_all(content)
  return json.loads(content.astype(np.uint8).tobytes())


def fetch(arrays: PyTree) -> PyTree:
  """Returns global arrays as full NumPy arrays in every process."""
  if not is_multiprocess():
    return jax.device_get(arrays)
  return multihost_utils.process_allgather(arrays, tiled=True)


def sum_over_processes(number: int) -> int:
  """Returns the sum of the numbers of all processes."""
  if not is_multiprocess():
    return number
  return int(np.sum(multihost_utils.process_allgather(np.int32(number))))


def is_lost_connection(error: Exception) -> bool:
  """Returns whether an error was caused by the exit of another process."""
  return 'Gloo' in str(error)


def explain(error: Exception) -> str:
  """Returns the message of an error with the process and a likely cause."""
  message = str(error)
  if foreign_errors.is_foreign(error):
    message = foreign_errors.message(error)
  if isinstance(error, StartError) or not is_multiprocess():
    return message
  if is_lost_connection(error):
    message = (
      'lost the connection to another process, which has exited; see its log'
      ' for the reason. The same command on all processes resumes from the last'
      f' checkpoint. ({message})'
    )
  return f'process {jax.process_index()} of {jax.process_count()}: {message}'


def exit_now(code: int) -> NoReturn:
  """Exits this process immediately, without waiting for the others.

  A regular exit waits for all processes, but those waiting for data from this
  one would never notice its failure.
  """
  logging.shutdown()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
