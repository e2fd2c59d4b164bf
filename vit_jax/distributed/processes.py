"""Several processes of one run: their start, and what they tell each other.

Every process runs the same program on devices of its own; `jax.distributed`
joins them. On a Cloud TPU pod, under Slurm, Open MPI and in Kubernetes jobs JAX
finds out by itself who takes part; elsewhere address, number and index are
given. CPUs talk through gloo, which is JAX's default.
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

_log = logging.getLogger(__name__)

ALONE = 'none'  # In place of a coordinator: do not look for other processes.


class StartError(OSError):
  """The processes could not be joined."""


def start(
  *,
  coordinator: str = '',
  num_processes: int = 0,
  process_index: int = -1,
  start_timeout: float = 300,
  heartbeat_timeout: int = 100,
) -> None:
  """Joins the processes of a run; must come before anything uses a device.

  What is not given is taken from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and
  JAX_PROCESS_ID, then from the cluster. Where nothing tells of other processes,
  this one stays alone.

  Args:
    coordinator: HOST:PORT where process 0 listens; ALONE not to look.
    num_processes: of the run; 0 where not given.
    process_index: of this process; -1 where not given.
    start_timeout: seconds to wait for all processes.
    heartbeat_timeout: seconds after which a process that is not heard of ends
      all others.

  Raises:
    ValueError: if what is given is incomplete or contradicts itself.
    StartError: if they cannot be joined. If they do not all come, this process
      ends with a message.
  """
  if coordinator == ALONE:
    return
  address = coordinator or os.environ.get('JAX_COORDINATOR_ADDRESS')
  number = num_processes or _from_environment('JAX_NUM_PROCESSES')
  index = process_index
  if index < 0:
    index = _from_environment('JAX_PROCESS_ID')
  _check(address, number, index)
  given = {
    'distributed.coordinator': address,
    'distributed.num_processes': number,
    'distributed.process_index': index,
  }
  known = {name: value for name, value in given.items() if value is not None}
  told = ', '.join(f'{name}={value}' for name, value in known.items())
  told = told or 'as the cluster says'
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
      lambda: _explain_timeout(told, address, start_timeout),
    )
  except Exception as error:  # Clusters raise whatever they like.
    if isinstance(error, ValueError) and 'defined' in str(error):
      if not known:
        return
      missing = ' and '.join(name for name in given if name not in known)
      raise ValueError(
        f'{told} tells of several processes, but {missing} is missing, and no'
        ' cluster that JAX knows supplies it; give all three to every process,'
        ' or none for a run of one process.'
      ) from error
    raise StartError(
      f'the processes could not be joined ({told}): {error}. To start one'
      f' process alone, set distributed.coordinator={ALONE}.'
    ) from error
  _log.info(
    'process %d of %d, with %d of %d devices',
    jax.process_index(), jax.process_count(), jax.local_device_count(),
    jax.device_count(),
  )  # fmt: skip


def _from_environment(name: str) -> int | None:
  value = os.environ.get(name)
  if value is not None and not value.isdigit():
    raise ValueError(f'{name}={value!r} in the environment is not a number.')
  return None if value is None else int(value)


def _check(address, number, index) -> None:
  if address is not None and not re.fullmatch(r'\S+:\d+', address):
    raise ValueError(
      f'the address {address!r} of the coordinator is not HOST:PORT, such as'
      ' 10.0.0.2:8476; HOST is that of process 0, and PORT any free one.'
    )
  if None not in (number, index) and index >= number:
    raise ValueError(
      f'there is no process {index} of {number}: they are 0 to {number - 1}.'
    )


def _check_port(port: int) -> None:
  """Refuses a port in use, which would end JAX with a segmentation fault."""
  try:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    socket.create_server(('', port), family=family, dualstack_ipv6=both).close()
  except OSError as error:
    raise StartError(
      f'process 0 cannot listen at port {port} of distributed.coordinator'
      f' ({error}); choose another one for all processes.'
    ) from error


def _initialize(arguments, timeout: float, explain: Callable[[], str]) -> None:
  """Starts `jax.distributed`, or ends this process if that takes too long.

  Nothing can be raised instead: JAX waits in compiled code, which aborts with a
  stack trace when its own time is over.
  """

  def give_up():
    print(f'error: {explain()}', file=sys.stderr)
    leave(1)

  watchdog = threading.Timer(timeout, give_up)
  watchdog.daemon = True
  watchdog.start()
  try:
    with warnings.catch_warnings():
      # In any container of Kubernetes JAX asks for a package of its.
      warnings.filterwarnings('ignore', message='Kubernetes environment')
      jax.distributed.initialize(
        **arguments, initialization_timeout=int(timeout) + 60
      )
  finally:
    watchdog.cancel()


def _explain_timeout(told: str, address: str | None, timeout: float) -> str:
  reason = (
    'not all processes have come; start the others with the same keys, or set'
    f' distributed.coordinator={ALONE} for one process alone'
  )
  if address:
    host, _, port = address.rpartition(':')
    try:
      socket.create_connection((host.strip('[]'), int(port)), timeout=5).close()
    except OSError as error:
      reason = (
        f'nothing answers at {address} ({error}); check the address, the'
        ' firewall, and that process 0 runs'
      )
  return (
    f'the processes did not all find each other in {timeout:g} s'
    f' ({told}): {reason}.'
  )


def several() -> bool:
  """Whether this run has other processes; of one alone, uses no device."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
  """Whether this is the process that reports and writes."""
  return not several() or jax.process_index() == 0


def wait_for_all(where: str) -> None:
  """Waits until every process has come to this place of the program."""
  if several():
    multihost_utils.sync_global_devices(where)


def from_first(make: Callable[[], Any]) -> Any:
  """A value, of what JSON can hold, that process 0 makes for all."""
  if not several():
    return make()
  text = json.dumps(make()).encode() if is_first() else b''
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  content = np.frombuffer(text.ljust(length), np.uint8)
  content = multihost_utils.broadcast_one_to_all(content)
  return json.loads(content.astype(np.uint8).tobytes())


def fetch(arrays: PyTree) -> PyTree:
  """Global arrays, whole, as NumPy arrays in every process."""
  if not several():
    return jax.device_get(arrays)
  return multihost_utils.process_allgather(arrays, tiled=True)


def total(number: int) -> int:
  """The sum of what each process gives."""
  if not several():
    return number
  return int(np.sum(multihost_utils.process_allgather(np.int32(number))))


def is_end_of_another(error: Exception) -> bool:
  """Whether an error only tells that another process is gone."""
  return 'Gloo' in str(error)


def explain(error: Exception) -> str:
  """An error's message, with the process and, if that is so, another's end."""
  message = str(error)
  if isinstance(error, StartError) or not several():
    return message
  if is_end_of_another(error):
    message = (
      'the connection to another process broke off, since it has ended; its'
      ' own log says why. The same command, on all, goes on from the last'
      f' checkpoint. ({message})'
    )
  return f'process {jax.process_index()} of {jax.process_count()}: {message}'


def leave(code: int) -> NoReturn:
  """Ends this process at once, without waiting for the others.

  An orderly end waits for all processes, of which those that wait for data from
  this one would never know that it has failed.
  """
  logging.shutdown()
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
