"""Runs command lines in forked children of one process that has imported all.

Reads JSON lists of arguments from stdin, one a line, and answers each with a
JSON object: exit code, seconds, MiB, and what was printed. Every child has the
memory and the time of a limit.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time

from absl import app
import tensorflow  # noqa: F401

from vit_jax import main
from vit_jax.distributed import interrupt

MEBIBYTE = 1 << 20


def address_space() -> int:
  """Returns the bytes that this process has mapped."""
  with open('/proc/self/statm') as f:
    return int(f.read().split()[0]) * resource.getpagesize()


def child(arguments, memory, output):
  """Runs a command line in this process, and ends it."""
  os.dup2(output.fileno(), 1)
  os.dup2(output.fileno(), 2)
  null = os.open(os.devnull, os.O_RDONLY)
  os.dup2(null, 0)
  limit = address_space() + memory
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
  sys.argv[:] = ['main.py', *arguments]
  try:
    with interrupt.one_line():
      app.run(main.main, flags_parser=main._parse_flags)
  except SystemExit as e:  # As the interpreter does it.
    if isinstance(e.code, str):
      print(e.code, file=sys.stderr)
    code = 1 if isinstance(e.code, str) else e.code or 0
  except BaseException:
    sys.excepthook(*sys.exc_info())
    code = 1
  interrupt.signal.set_wakeup_fd(-1)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def serve(seconds: float, memory: int) -> None:
  """Answers requests until stdin ends."""
  for line in sys.stdin:
    with tempfile.TemporaryFile() as output:
      begin = time.monotonic()
      process = os.fork()
      if not process:
        child(json.loads(line), memory, output)
      timer = threading.Timer(seconds, os.kill, (process, signal.SIGKILL))
      timer.start()
      _, status, usage = os.wait4(process, 0)
      timer.cancel()
      output.seek(0)
      answer = {
        'code': os.waitstatus_to_exitcode(status),
        'seconds': time.monotonic() - begin,
        'mebibytes': usage.ru_maxrss // 1024,
        'log': output.read().decode(errors='replace'),
      }
    print(json.dumps(answer), flush=True)


if __name__ == '__main__':
  serve(float(sys.argv[1]), int(sys.argv[2]) * MEBIBYTE)
