"""Errors from other libraries, in one line that a user can act on.

JAX, NumPy, TensorFlow and Orbax report errors in several lines that also list
their own operations, threads and settings. `message` keeps only the reason.
"""

import re
import sys

_REMEDIES = (
  'lower batch_size, eval_batch_size or data.image_size, raise'
  ' optim.accumulate, or set model.remat=full'
)
# What TensorFlow and TensorStore write around the reason.
_NOISE = re.compile(
  r'\{\{(function_)?node [^}]*\}\}\s*'
  r'|Error in user-defined function passed to .*? with iterator: \S+: '
  r'|\s*\[Op:\w+\]( name:.*)?'
  r'|^Graph execution error:$|^Detected at node .*$|^ *File ".*$',
  re.MULTILINE,
)
_ASSERTION = 'assertion failed: '  # Followed by the values, each in brackets.
_TENSORSTORE = re.compile(
  r'(?:.*: )?(.*?) \[(?:tensorstore_spec|os_error_code)='
)
_BYTES = re.compile(r'allocat\w* (\d+) ?bytes', re.IGNORECASE)
_LIBRARIES = ('tensorflow', 'orbax')


def message(error: BaseException) -> str:
  """Returns the message of an error in one line.

  If a device or the host ran out of memory, the message says how much was
  requested, if known, and how to use less.
  """
  lines = _NOISE.sub('', str(error)).strip().splitlines()
  reason = lines[0].rstrip() if lines else type(error).__name__
  reason = reason.removeprefix('InvalidArgumentError: ')
  if reason.startswith(_ASSERTION):
    reason = ' '.join(re.findall(r'\[(.*?)\]', reason))
  if stored := _TENSORSTORE.match(reason):
    reason = stored[1]
  if not is_out_of_memory(error):
    return reason
  if size := _BYTES.search(reason):
    reason = f'{int(size[1]) / 2**30:,.2f} GiB could not be allocated'
  reason = reason.removeprefix('RESOURCE_EXHAUSTED: ').partition(' on /job')[0]
  if reason == 'MemoryError':
    reason = 'the host could not allocate more'
  return f'out of memory: {reason.rstrip(". ")}. To use less, {_REMEDIES}.'


def is_out_of_memory(error: BaseException) -> bool:
  """Returns whether a device or the host could not allocate memory."""
  text = str(error)
  # TensorFlow raises the same error for full disks.
  if type(error).__name__ == 'ResourceExhaustedError':
    return 'OOM' in text or 'memory' in text
  is_from_jax = type(error).__name__ in ('JaxRuntimeError', 'XlaRuntimeError')
  return isinstance(error, MemoryError) or (
    is_from_jax and 'RESOURCE_EXHAUSTED' in text
  )


def is_foreign(error: BaseException) -> bool:
  """Returns whether the traceback of an error would not help the user.

  TensorFlow errors come from reading data, Orbax errors from checkpoints.
  """
  library = type(error).__module__.partition('.')[0]
  return is_out_of_memory(error) or library in _LIBRARIES


def hide_late_reads() -> None:
  """Hides errors of reads that end after Orbax has reported a failure.

  Python would print a traceback for each, since no caller is left to handle it.
  """
  show = sys.unraisablehook

  def show_others(unraisable):
    if str(unraisable.exc_value) != 'Event loop is closed':
      show(unraisable)

  sys.unraisablehook = show_others
