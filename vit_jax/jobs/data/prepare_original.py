"""Prepares a dataset from the user's own images."""

import hashlib
import logging
import os
import time

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.data import class_names
from vit_jax.data.preparation import dataset, kinds
from vit_jax.workdir import claim, console, lock, results

_log = logging.getLogger(__name__)

_SECONDS_BETWEEN_MESSAGES = 10


def run(
  source: str, config: ml_collections.ConfigDict, workdir: epath.Path
) -> None:
  """Prepares the dataset `prepare.name`, or resumes.

  Args:
    source: original data, as KIND:PATH.
    config: the config.
    workdir: folder of the run.

  Raises:
    ValueError: if the source or a setting is invalid, or another dataset of
      that name exists.
    OSError: if a file cannot be written.
  """
  keys = config.prepare
  kind = source.partition(':')[0]
  name = keys.name or kinds.DEFAULT_NAMES.get(kind, '')
  dataset.check_name(name)
  names = None
  if keys.class_names:
    names = class_names.read(keys.class_names, 'prepare.class_names')
  settings = {
    'source': source.rstrip('/'),
    'seed': config.seed,
    'duplicates': keys.duplicates,
    'shard_mib': keys.shard_mib,
    'max_pixels': config.data.max_pixels,
    'class_names': names and hashlib.sha256(repr(names).encode()).hexdigest(),
  }
  folder = dataset.data_folder(config.data.dir) / name
  start = time.perf_counter()
  counts = dataset.finished(folder, settings)
  state = 'already prepared' if counts else 'prepared'
  original = None if counts else kinds.open_original(source)
  claim.restart(config_lib.flatten(config), workdir)
  if counts is None:
    with lock.hold(folder, 'choose another prepare.name'):
      try:
        counts = dataset.prepare(
          original,
          folder,
          settings=settings,
          class_names=names,
          num_workers=keys.workers or len(os.sched_getaffinity(0)),
          progress=_Progress(),
        )
      except OSError as error:
        raise OSError(
          f'{name} could not be prepared: {error}. The same command resumes.'
        ) from error
  _log.info('%s: %s in %s', name, state, folder / dataset.VERSION)
  _log.info('%s', console.table(_rows(counts)))
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - start,
    on_devices=False,
    datasets={name: state},
    **counts,
  )


def _rows(counts):
  """Returns the table of the numbers of images."""
  rows = [(f'images of {split}', n) for split, n in counts['splits'].items()]
  rows += [
    ('classes', counts['classes']),
    ('converted to PNG', counts['converted']),
    (f'unreadable, see {dataset.UNREADABLE}', counts['unreadable']),
    ('byte-identical to another image of the split', counts['duplicates']),
    ('distinct images with different labels', counts['ambiguous']),
  ]
  return [(what, f'{count:,}') for what, count in rows]


class _Progress:
  """Logs what is done, and the time left."""

  def __init__(self):
    self._what = ''

  def __call__(self, what: str, done: int, total: int) -> None:
    now = time.monotonic()
    if what != self._what:
      self._what, self._first, self._start = what, done, now
      self._logged = -float('inf')
    if now - self._logged < _SECONDS_BETWEEN_MESSAGES and done < total:
      return
    self._logged = now
    left = ''
    if self._first < done < total:
      seconds = (now - self._start) / (done - self._first) * (total - done)
      left = f', {console.duration(seconds)} left'
    _log.info('%s: %s of %s%s', what, f'{done:,}', f'{total:,}', left)
