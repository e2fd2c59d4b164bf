"""Image files with labels: what folders and tables have in common.

`Files` lists all files of a dataset. A `FileSource` is a split of it. No file
is opened before its image is needed, so opening a dataset takes no longer than
reading its list.
"""

from __future__ import annotations

from concurrent import futures
import dataclasses
import functools
import itertools
import logging
import operator
import os
from typing import Any, TypeVar

from etils import epath
from jaxtyping import Bool, Int32, Int64
import numpy as np

from vit_jax.data import assertions, decode, listing, splits
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.ragged import Ragged, RaggedTensors
from vit_jax.data.source import RandomAccessSource, digest

_log = logging.getLogger(__name__)

_THREADS = 32  # They mostly wait for the file system.
_MAGIC = tuple(itertools.chain(*decode.MAGIC.values()))
_NOT_AN_IMAGE = f'not {", ".join(decode.MAGIC)} according to the first bytes'
_SPECIAL = 'it is a FIFO, a socket or a device'

_Source = TypeVar('_Source', bound='FileSource')


# A dataset is opened for every split, but its messages are logged once.
@functools.cache
def log_once(message: str) -> None:
  """Logs a message at its first occurrence."""
  _log.info('%s', message)


def in_fixed_order(
  names: Ragged, rows: Int64[np.ndarray, ' m']
) -> Int64[np.ndarray, ' m']:
  """Returns some rows, shuffled so that slices contain all classes."""
  keys = splits.order_keys('order', names.take(rows))
  return rows[np.argsort(keys, kind='stable')]


def find_repeated(names: Ragged) -> tuple[int, int] | None:
  """Returns the first row that repeats a name, after an earlier row with it.

  Returns None if all names differ.
  """
  keys = splits.order_keys('order', names)
  order = np.argsort(keys, kind='stable')
  keys = keys[order]
  again = np.flatnonzero(keys[1:] == keys[:-1])
  pairs = zip(order[again].tolist(), order[again + 1].tolist(), strict=True)
  # Different names may have the same key.
  pairs = [(a, b) for a, b in pairs if len(set(names.take([a, b]))) == 1]
  return min(pairs, key=operator.itemgetter(1), default=None)


def divide(
  names: Ragged, groups: Int32[np.ndarray, ' n']
) -> dict[str, Int64[np.ndarray, ' rows']]:
  """Divides files between train and test, in fixed order.

  The test files are a fifth of every group, rounded, but at least one of
  several. They are chosen by a hash of their names, so that added files move
  few of the others to another split.
  """
  in_test = _in_test(names, groups)
  parts = {'train': np.flatnonzero(~in_test), 'test': np.flatnonzero(in_test)}
  return {split: in_fixed_order(names, rows) for split, rows in parts.items()}


def _in_test(
  names: Ragged, groups: Int32[np.ndarray, ' n']
) -> Bool[np.ndarray, ' n']:
  by_group = np.lexsort((splits.order_keys('split', names), groups))
  in_test = np.zeros(len(names), bool)
  for rows in np.split(by_group, np.cumsum(np.bincount(groups))[:-1]):
    num_test = max(round(len(rows) / 5), 1) if len(rows) > 1 else 0
    in_test[rows[:num_test]] = True
  return in_test


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Files:
  """All files of a dataset, with labels and splits.

  Attributes:
    prefix: what precedes each name in its path: a folder and a slash, or ''.
    names: name of every file.
    class_names: name of every class.
    labels: class of every file, or its classes if it may have any number.
    splits: rows of the files of each whole split, in their fixed order.
    special: rows of FIFOs, sockets and devices, which must not be opened.
    is_divided: whether the files come without splits, so that `divide` made
      those of `splits`.
    sizes: size of every file in bytes, if known.
    listed_in: file that these files were read from; empty: none.
    stand_in: name of the validation split if it is also the split test; empty:
      it is not.
  """

  prefix: str
  names: Ragged
  class_names: tuple[str, ...]
  labels: Int32[np.ndarray, ' n'] | Ragged
  splits: dict[str, Int64[np.ndarray, ' rows']]
  special: Int64[np.ndarray, ' special']
  is_divided: bool = False
  sizes: Int64[np.ndarray, ' n'] | None = None
  listed_in: str = ''
  stand_in: str = ''

  def fields(
    self,
    name: str,
    split: str,
    *,
    subset: int = 0,
    seed: int = 0,
    exclude: Exclusions | None = None,
  ) -> dict[str, Any]:
    """Returns the fields of a `FileSource` for a split expression.

    Args:
      name: the dataset as given by the user.
      split, subset, seed, exclude: see `registry.open_source`.

    Raises:
      ValueError: if the split is unknown or empty, or `exclude` does not match
        it.
    """
    parts = self.splits
    if self.stand_in:
      parts = {**parts, 'test': parts['val']}
      if 'test' in map(splits.plain_name, split.split('+')):
        log_once(f'{name} has no split test; using {self.stand_in} instead')
    rows = splits.select(split, parts, name)
    if exclude:
      names = map(listing.as_text, self.names.take(rows))
      excluded = np.flatnonzero([n in exclude.ids for n in names])
      rows = rows[exclude.remaining(excluded, len(rows))]
    if subset:
      rows = rows[splits.random_subset(subset, len(rows), seed, name)]
    special = np.isin(rows, self.special)
    multi_label = isinstance(self.labels, Ragged)
    return {
      'name': name,
      'split': split,
      'num_examples': len(rows),
      'class_names': self.class_names,
      'multi_label': multi_label,
      'prefix': self.prefix,
      'names': self.names.tensors(rows),
      'labels': self.labels.tensors(rows)
      if multi_label
      else tf.constant(self.labels[rows]),
      'special': tf.constant(special) if special.any() else None,
      'sizes': None if self.sizes is None else self.sizes[rows],
      'listed_in': self.listed_in,
    }

  def labels_of(self, rows: Int64[np.ndarray, ' m'] | slice) -> list[list[str]]:
    """Returns the names of the classes of some files."""
    if isinstance(self.labels, Ragged):
      labels = self.labels.take(rows)
    else:
      labels = self.labels[rows][:, None]
    return [[self.class_names[k] for k in classes] for classes in labels]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FileSource(RandomAccessSource):
  """Labelled image files.

  Attributes:
    prefix: what precedes each name in its path: a folder and a slash, or ''.
    names: name of every file.
    labels: class of every file, int32 (n,), or its classes if `multi_label`.
    special: whether each file is a FIFO, a socket or a device, which is never
      opened; None if there are none.
    sizes: size of every file in bytes, if known without asking the file system.
    listed_in: file that these files were read from; empty: none.
  """

  prefix: str
  names: RaggedTensors
  labels: tf.Tensor | RaggedTensors
  special: tf.Tensor | None = None
  sizes: Int64[np.ndarray, ' n'] | None = None
  listed_in: str = ''

  def load(self, record):  # noqa: D102
    index = record['index']
    path = tf.strings.join([os.fsencode(self.prefix), self.names[index]])
    if self.special is not None:
      special = tf.gather(self.special, index)
      if tf.executing_eagerly():
        assertions.require(~special, _SPECIAL)
      path = tf.where(special, '', path)  # Cannot be read.
    # In a graph, decoding fails anyway; `_read` is for the message of an error.
    read = self._read if tf.executing_eagerly() else tf.io.read_file
    return read(path), self._label(index)

  def _label(self, index) -> tf.Tensor:
    if not self.multi_label:
      return tf.gather(self.labels, index)
    classes = self.labels[index]
    ones = tf.ones_like(classes, tf.float32)
    return tf.scatter_nd(classes[:, None], ones, [self.num_classes])

  def _read(self, path: tf.Tensor) -> tf.Tensor:
    """Reads a file; the error says why it cannot be an image.

    Raises:
      tf.errors.OpError: if there is no such file, or it is not an image.
    """
    try:
      raw = tf.io.read_file(path)
    except tf.errors.NotFoundError as error:
      if not self.listed_in:
        raise
      raise tf.errors.NotFoundError(
        None, None, f'there is no such file, but {self.listed_in} lists it'
      ) from error
    assertions.require(raw.numpy().startswith(_MAGIC), _NOT_AN_IMAGE)
    return raw

  def describe(self, index: int) -> str:  # noqa: D102
    path = os.fsencode(self.prefix) + self.names[index].numpy()
    return listing.as_text(path)

  def stable_id(self, index: int) -> str:  # noqa: D102
    return listing.as_text(self.names[index].numpy())

  def file_names(self) -> list[str]:  # noqa: D102
    return list(map(listing.as_text, map(os.path.basename, self.names.numpy())))

  def fingerprint(self) -> dict[str, Any]:
    """Returns the number of images and a hash of their files, by class.

    The hash covers every name, as given by `_name_in_class`, and the size in
    bytes.
    """
    names, rows = self.names.numpy(), np.arange(self.num_examples)
    sizes = self.sizes
    if sizes is None:
      sizes = file_sizes(self.prefix, names)
    if self.multi_label:
      labels = self.labels.numpy()
      rows = np.repeat(rows, labels.lengths)
      labels = labels.flat()
    else:
      labels = self.labels.numpy()
    in_order = np.argsort(labels, kind='stable')
    ends = np.cumsum(np.bincount(labels, minlength=self.num_classes))

    def describe(rows, class_name=''):
      lines = sorted(
        f'{self._name_in_class(name, class_name)}\t{size}\n'.encode()
        for name, size in zip(
          map(listing.as_text, names.take(rows)), sizes[rows], strict=True
        )
      )
      return [len(lines), digest(b''.join(lines))]

    by_class = np.split(rows[in_order], ends[:-1])
    classes = {
      name: describe(rows_of_class, name)
      for name, rows_of_class in zip(self.class_names, by_class, strict=True)
    }
    if not self.multi_label:
      return {'classes': classes}
    unlabelled = np.setdiff1d(np.arange(self.num_examples), rows)
    return {'classes': classes, 'unlabelled': describe(unlabelled)}

  def _name_in_class(self, name: str, class_name: str) -> str:
    """Returns the part of a name that does not depend on where the data is."""
    del class_name
    return name

  def take(
    self: _Source,
    rows: Int64[np.ndarray, ' m'],
    **changes: Any,
  ) -> _Source:
    """Returns a source with only these examples, and with changed fields."""
    fields = {
      'num_examples': len(rows),
      'names': self.names.take(rows),
      'labels': self.labels.take(rows)
      if self.multi_label
      else tf.gather(self.labels, rows),
      'special': None
      if self.special is None
      else tf.gather(self.special, rows),
      'sizes': None if self.sizes is None else self.sizes[rows],
    }
    return dataclasses.replace(self, **{**fields, **changes})


def file_sizes(prefix: str, names: Ragged) -> Int64[np.ndarray, ' n']:
  """Returns file sizes in bytes, -1 for files that cannot be read.

  This takes a request per file, of which many wait at the same time.
  """
  start = os.fsencode(prefix)

  def sizes(rows):
    found = (_size(start + name) for name in names.take(rows))
    return np.fromiter(found, np.int64, len(rows))

  parts = np.array_split(np.arange(len(names)), _THREADS)
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    return np.concatenate(list(pool.map(sizes, parts)))


def _size(path: bytes) -> int:
  """Returns the size of a file in bytes, -1 if it cannot be read."""
  try:
    if b'://' in path:
      return epath.Path(os.fsdecode(path)).stat().length
    return os.path.getsize(path)  # 40 times as fast as with epath.
  except OSError:
    return -1
