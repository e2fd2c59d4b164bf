"""The command line: `python -m vit_jax.main --config=configs/NAME.py[:ARG]`.

Any key of the config can be set too, as in `--config.batch_size=256`; `--show`
prints what would run. Repeating the command resumes an interrupted run. On
several hosts, start the same command on each; `distributed.*` or the cluster
gives each process its index.
"""

import contextlib
import gc
import logging
import os
import pathlib
import re
import sys
import traceback

from vit_jax.distributed import interrupt

if __name__ == '__main__':  # The other imports take seconds.
  interrupt.exit_during_imports()
  # Imports and tracing create many objects and little garbage. Searching for it
  # after every 700 new objects, the default, takes a sixth of the startup time.
  gc.set_threshold(20_000)

from absl import app, flags
from absl import logging as absl_logging
from etils import epath, epy
import jax
import ml_collections
from ml_collections import config_flags

from vit_jax import config as config_lib
from vit_jax import foreign_errors, jobs, printing
from vit_jax.build import summary
from vit_jax.checkpoints import backlog, downloads, location
from vit_jax.distributed import compilation, cpu, processes
from vit_jax.workdir import lock

with epy.lazy_imports():  # Imports Matplotlib; needed only at the end of a job.
  from vit_jax.page import report

# Keys are not parsed by ml_collections but by `config.set_keys`.
_CONFIG = config_flags.DEFINE_config_file(
  'config',
  None,
  'Experiment: a file in configs/, with :ARG if it takes one.',
  sys_argv=[],
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Work directory of the run; runs/NAME[-ARG] by default.'
)
_SHOW = flags.DEFINE_bool(
  'show', False, 'Prints what the command would run, and exits.'
)
_KEY = re.compile(r'--?(no)?config\.([^=]*)(?:=(.*))?', re.DOTALL)
_CONFIG_IN_HOME = re.compile(r'(--?config=)(~.*)')
_PACKAGE = pathlib.Path(__file__).resolve().parent
_ML_COLLECTIONS = pathlib.Path(config_flags.__file__).parent
_OURS = (_PACKAGE, _PACKAGE.parent / 'configs')

_log = logging.getLogger('vit_jax')


def run(
  config: ml_collections.ConfigDict,
  workdir: epath.PathLike,
  *,
  log_summary: bool = False,
) -> None:
  """Runs or resumes the job of a config in `workdir`.

  Args:
    config: the config.
    workdir: the work directory; may not exist yet.
    log_summary: whether to log first what runs, as `--show` prints it.

  Raises:
    backlog.WriteError: if a file cannot be written at the end.
    ValueError: if the config or its data is invalid, or another run uses the
      work directory.
  """
  job = _check(config)
  if job.one_process and processes.is_multiprocess():
    raise ValueError(
      f'the job {config.job!r} runs in one process, but there are'
      f' {jax.process_count()}; start it on one host only, with'
      f' distributed.coordinator={processes.SINGLE_PROCESS}.'
    )
  workdir = epath.Path(workdir)
  with contextlib.ExitStack() as at_the_end:
    if job.uses_workdir:
      at_the_end.enter_context(lock.hold(workdir))
      at_the_end.enter_context(backlog.keeping())
    at_the_end.enter_context(_compilation_cache(config.compilation_cache))
    if log_summary and processes.is_first():
      _log.info('%s', _describe(config, workdir))
    if job.has_model:
      cpu.prepare()
    job.run(config, workdir)
    if job.uses_workdir and config.report.page:
      report.finish(workdir)


def _compilation_cache(folder: str) -> contextlib.AbstractContextManager:
  """Returns the context in which compiled programs are kept in a folder."""
  # On GPUs, processes compile together, and hang if only some of them find a
  # program in their own folder.
  if folder == 'none' or (not folder and processes.is_multiprocess()):
    return contextlib.nullcontext()
  return compilation.persistent_cache(
    location.expand(folder) if folder else downloads.cache_folder() / 'compiled'
  )


def _describe(
  config: ml_collections.ConfigDict, workdir: epath.PathLike
) -> str:
  """Returns what runs, in lines for the user."""
  job = jobs.JOBS[config.job]
  return '\n'.join(
    summary.describe(
      config,
      str(workdir),
      has_model=job.has_model,
      reads_weights=job.reads_weights,
    )
  )


def _check(config: ml_collections.ConfigDict) -> jobs.Job:
  """Checks the config and returns its row of the table of jobs."""
  if config.job not in jobs.JOBS:
    raise ValueError(
      f'job={config.job!r} is not one of the jobs {", ".join(jobs.JOBS)}.'
    )
  job = jobs.JOBS[config.job]
  config_lib.check(config, takes_steps=job.takes_steps)
  return job


def default_workdir(config_file: str) -> str:
  """Returns `runs/NAME` or `runs/NAME-ARG` for `configs/NAME.py[:ARG]`."""
  path, _, argument = config_file.partition(':')
  parts = [os.path.basename(path).removesuffix('.py'), argument]
  name = '-'.join(filter(None, parts))
  return os.path.join('runs', re.sub(r'[^A-Za-z0-9.+_-]', '-', name))


def _parse_flags(argv: list[str]) -> list[str]:
  """Parses flags as absl does, but exits with a single message on errors."""
  try:
    argv, keys = _split_keys(flags.FLAGS.read_flags_from_files(argv))
    rest = flags.FLAGS(argv)
    if not flags.FLAGS['config'].present:
      raise ValueError('--config=configs/NAME.py is missing.')
    if len(rest) > 1:
      raise ValueError(
        f'{" ".join(rest[1:])} is not a flag; write --config=... and, for its'
        ' keys, --config.key=value.'
      )
    file = flags.FLAGS['config'].config_filename
    if not os.path.exists(file.partition(':')[0]):
      raise ValueError(
        f'--config={file!r}: No such file; write --config=configs/NAME.py.'
      )
    config = _CONFIG.value
    getattr(config, 'job', None)  # Raises the reason if it was not loaded.
    if not isinstance(config, ml_collections.ConfigDict) or 'job' not in config:
      raise ValueError(
        f'get_config() of {file} does not return a config that starts from'
        ' vit_jax.config.base().'
      )
    config_lib.set_keys(config, keys)
  except (
    flags.Error, AttributeError, TypeError, ValueError, OSError, RecursionError
  ) as e:  # fmt: skip
    if of_user := _error_of_user(e):
      raise of_user from None
    if isinstance(e, RecursionError):  # absl compares a flag with all others.
      _exit(e, f'{max(argv, key=len)[:40]}... is not a flag.')
    _exit(e, _without_traceback(str(e).removeprefix('ERROR:: ')))
  return rest


def _split_keys(argv: list[str]) -> tuple[list[str], dict[str, str]]:
  """Separates --config.KEY=VALUE, in any flag syntax, from other flags."""
  rest, keys = [], {}
  arguments = iter(argv)
  for argument in arguments:
    match = _KEY.fullmatch(argument)
    if not match:
      if config := _CONFIG_IN_HOME.fullmatch(argument):  # Shells leave it.
        argument = config[1] + os.path.expanduser(config[2])
      rest.append(argument)
      continue
    negated, name, value = match.groups()
    config_lib.check_name(name)
    is_flag = value is None and config_lib.KEYS[name].type is bool
    if negated and not is_flag:
      raise ValueError(
        f'{argument!r}: only boolean keys can be negated, and only without a'
        ' value; write --config.KEY=VALUE.'
      )
    if is_flag:
      value = 'false' if negated else 'true'
    elif value is None:
      value = next(arguments, '')
    keys[name] = value
  return rest, keys


def _error_of_user(error: BaseException | None) -> BaseException | None:
  """Returns the error in a config file that is not one of ours, or None.

  It is a mistake in the code of the user, who needs the traceback. Errors that
  our own code raises are messages about the arguments of the config.
  """
  while error is not None:
    frames = traceback.extract_tb(error.__traceback__)
    names = [(pathlib.Path(f.filename).parent, f.name) for f in frames]
    if (_ML_COLLECTIONS, 'parse') in names[:-1]:  # It loads the file.
      raised_in = pathlib.Path(frames[-1].filename).resolve()
      ours = any(raised_in.is_relative_to(folder) for folder in _OURS)
      return None if ours else error
    error = error.__context__  # absl and ml_collections raise others instead.
  return None


def _without_traceback(message: str) -> str:
  """Returns the message of an error in a config file without its traceback."""
  head, found, trace = message.partition('Traceback')
  if not found:
    return message
  # Frames are indented; the error itself follows them.
  return f'{head.strip()} ' + re.split(r'\n(?=\S)', trace)[-1].strip()


def _exit(error: Exception, message: str) -> None:
  """Exits with the message; --verbosity=1 adds the traceback."""
  absl_logging.debug('the error was raised here', exc_info=error)
  text = printing.printable(f'error: {message}', keep='\n')
  if jax.distributed.is_initialized():
    print(text, file=sys.stderr)
    processes.exit_now(1)
  sys.exit(text)


def _start_log() -> None:
  """Logs our own messages to stderr, and only warnings of other libraries."""
  _log.addHandler(logging.StreamHandler())
  _set_log_format()
  _log.setLevel(logging.INFO)
  _log.propagate = False
  if not flags.FLAGS['verbosity'].present:
    absl_logging.set_verbosity(absl_logging.WARNING)
    foreign_errors.hide_late_reads()
    # Orbax logs hundreds of lines for a failure that we report in one.
    logging.getLogger('absl').addFilter(
      lambda record: '/orbax/' not in record.pathname
    )


class _Formatter(logging.Formatter):
  """Makes messages printable; tables have several lines."""

  def format(self, record: logging.LogRecord) -> str:
    return printing.printable(super().format(record), keep='\n')


def _set_log_format(prefix: str = '') -> None:
  formatter = _Formatter(f'{prefix}%(asctime)s %(message)s', '%H:%M:%S')
  for handler in _log.handlers:
    handler.setFormatter(formatter)


def _join_processes(config: ml_collections.ConfigDict) -> None:
  """Joins the other processes of the run; only the first one logs."""
  processes.start(**config.distributed)
  if not processes.is_first():
    _log.setLevel(logging.WARNING)
    _set_log_format(f'[{jax.process_index()}] ')


def main(argv: list[str]) -> None:
  """Runs or shows the job of the config."""
  del argv
  _start_log()
  config = _CONFIG.value
  try:
    _check(config)
    workdir = location.expand(
      _WORKDIR.value or default_workdir(flags.FLAGS['config'].config_filename)
    )
    if _SHOW.value:
      print(_describe(config, workdir))
      return
    _join_processes(config)
    run(config, workdir, log_summary=True)
  except KeyboardInterrupt:
    raise
  except (ValueError, OSError) as e:
    _exit(e, str(e) if _SHOW.value else processes.explain(e))
  except BaseException as e:
    if foreign_errors.is_foreign(e):
      _exit(e, processes.explain(e))
    if not jax.distributed.is_initialized():
      raise
    if not processes.is_lost_connection(e):
      traceback.print_exc()
    _exit(e, processes.explain(e))


if __name__ == '__main__':
  with interrupt.one_line():
    app.run(main, flags_parser=_parse_flags)
