"""The command line: `python -m vit_jax.main --config=configs/NAME.py[:ARG]`.

Any key of the config can be set beside it, as in `--config.batch_size=256`.
The same command again goes on where the run was interrupted. On several hosts
all start it, each told by `distributed.*` or by its cluster who it is.
"""

import logging
import os
import re
import sys
import traceback

from absl import app, flags
from absl import logging as absl_logging
from etils import epath
import jax
import ml_collections
from ml_collections import config_flags

from vit_jax import config as config_lib
from vit_jax import jobs
from vit_jax.config.keys import KEYS
from vit_jax.distributed import processes
from vit_jax.page import report

LOG_FORMAT = '%(asctime)s %(message)s'

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Experiment: a file in configs/, with :ARG where it has one.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where the run is kept; by default runs/NAME of the config.'
)


def run(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> None:
  """Runs the config's job in `workdir`, or what is left of it.

  Raises:
    ValueError: for input that cannot be worked with, saying what would be.
  """
  if config.job not in jobs.JOBS:
    raise ValueError(
      f'job={config.job!r} is not one of the jobs {", ".join(jobs.JOBS)}.'
    )
  job = jobs.JOBS[config.job]
  config_lib.check(config)
  if job.one_process and processes.is_multiprocess():
    raise ValueError(
      f'the job {config.job!r} runs in one process, and there are'
      f' {jax.process_count()}; start it on one host alone, with'
      f' distributed.coordinator={processes.SINGLE_PROCESS}.'
    )
  job.run(config, epath.Path(workdir))
  if config.report.page:
    report.finish(epath.Path(workdir))


def default_workdir(config_file: str) -> str:
  """`runs/NAME`, or `runs/NAME-ARG`, of a `configs/NAME.py[:ARG]`."""
  path, _, argument = config_file.partition(':')
  name = os.path.basename(path).removesuffix('.py')
  if argument:
    name += f'-{argument}'
  return os.path.join('runs', re.sub(r'[^A-Za-z0-9.+_-]', '-', name))


def _parse_flags(argv: list[str]) -> list[str]:
  """Like absl's parser, but a bad config or override is one message."""
  try:
    for argument in argv:
      if override := re.match(r'--config\.([\w.]+)', argument):
        config_lib.check_name(override[1])
    rest = flags.FLAGS(argv)
    if _CONFIG.value is None:
      raise ValueError('--config=configs/NAME.py is missing.')
    if len(rest) > 1:
      raise ValueError(
        f'{" ".join(rest[1:])} is no flag; write --config=... and, for its'
        ' keys, --config.key=value.'
      )
  except (flags.Error, TypeError, ValueError, OSError) as e:
    _exit(e, _explain(str(e)))
  return rest


def _explain(message: str) -> str:
  """A parser's message with what the key expects, or without the traceback."""
  if 'Traceback' in message:
    head, _, trace = message.partition('Traceback')
    # Frames are indented; the error itself follows them.
    error = re.split(r'\n(?=\S)', trace)[-1].strip()
    return f'{head.strip()} {error}'
  named = re.search(r'--config\.([\w.]+)', message)
  key = named and KEYS.get(named[1])
  if key:
    kind = type(key.default).__name__
    return f'{message}; {kind} is expected: {key.meaning}'
  return message


def _exit(error: Exception, message: str) -> None:
  """Ends with the message; --verbosity=1 also says where it comes from."""
  absl_logging.debug('the error came from here', exc_info=error)
  if jax.distributed.is_initialized():
    print(f'error: {message}', file=sys.stderr)
    processes.exit_now(1)
  sys.exit(f'error: {message}')


def _show_log() -> None:
  """Shows our own messages on stderr, of other libraries warnings alone."""
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter(LOG_FORMAT, '%H:%M:%S'))
  log = logging.getLogger('vit_jax')
  log.addHandler(handler)
  log.setLevel(logging.INFO)
  log.propagate = False
  if not flags.FLAGS['verbosity'].present:
    absl_logging.set_verbosity(absl_logging.WARNING)
    # Orbax logs hundreds of lines of a failure that we report in one.
    logging.getLogger('absl').addFilter(
      lambda record: '/orbax/' not in record.pathname
    )


def _join_processes(config: ml_collections.ConfigDict) -> None:
  """Finds the other processes of the run; of all, the first reports."""
  config_lib.check(config)
  processes.start(**config.distributed)
  if not processes.is_first():
    log = logging.getLogger('vit_jax')
    log.setLevel(logging.WARNING)
    for handler in log.handlers:
      handler.setFormatter(
        logging.Formatter(f'[{jax.process_index()}] {LOG_FORMAT}', '%H:%M:%S')
      )


def main(argv: list[str]) -> None:
  """Runs the job that the flags name."""
  del argv
  _show_log()
  config_file = flags.FLAGS['config'].config_filename
  workdir = _WORKDIR.value or default_workdir(config_file)
  try:
    _join_processes(_CONFIG.value)
    run(_CONFIG.value, workdir)
  except (ValueError, OSError) as e:
    _exit(e, processes.explain(e))
  except BaseException as e:
    if not jax.distributed.is_initialized():
      raise
    if not processes.is_lost_connection(e):
      traceback.print_exc()
    _exit(e, processes.explain(e))


if __name__ == '__main__':
  app.run(main, flags_parser=_parse_flags)
