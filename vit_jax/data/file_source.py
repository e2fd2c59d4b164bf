"""Image files with labels: what folders and tables have in common.

`Files` lists all files of a dataset. A `FileSource` is a split of it. No file
is opened before its image is needed, so opening a dataset takes no longer than
reading its list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent import futures
import dataclasses
import functools
import itertools
import os
from typing import Any, TypeVar

from etils import epath
from jaxtyping import Int32, Int64
import numpy as np

from vit_jax.data import assertions, decode, listing, splits
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.source import RandomAccessSource, digest

_NAMES_AT_ONCE = 2**16  # As Python integers, which take more memory.
_THREADS = 32  # They mostly wait for the file system.
_MAGIC = tuple(itertools.chain(*decode.MAGIC.values()))
_NOT_AN_IMAGE = f'not {", ".join(decode.MAGIC)} according to the first bytes'
_SPECIAL = 'it is a FIFO, a socket or a device'

_Source = TypeVar('_Source', bound='FileSource')


@dataclasses.dataclass(frozen=True, eq=False)
class Names:
  """Names of files, joined: 12 bytes of memory per name besides the name.

  Attributes:
    joined: names of these files and possibly others; name i is
      `joined[begins[i] : begins[i] + lengths[i]]`.
    begins: position of each name.
    lengths: number of bytes of each name.
  """

  joined: bytes
  begins: Int64[np.ndarray, ' n']
  lengths: Int32[np.ndarray, ' n']

  @classmethod
  def terminated(cls, joined: bytes) -> Names:
    r"""Splits a string in which every name is followed by a zero byte."""
    ends = np.flatnonzero(np.frombuffer(joined, np.uint8) == 0)
    begins = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    return cls(joined, begins, (ends - begins).astype(np.int32))

  def __len__(self) -> int:
    return len(self.begins)

  def __iter__(self) -> Iterator[bytes]:
    for start in range(0, len(self), _NAMES_AT_ONCE):
      part = slice(start, start + _NAMES_AT_ONCE)
      begins = self.begins[part]
      ends = begins + self.lengths[part]
      for begin, end in np.stack([begins, ends], 1).tolist():
        yield self.joined[begin:end]

  def take(self, rows: Int64[np.ndarray, ' m']) -> Names:
    """Returns the names of some files."""
    return Names(self.joined, self.begins[rows], self.lengths[rows])

  @functools.cached_property
  def tensor(self) -> tf.Tensor:
    """The joined names, a string scalar, shared by the splits."""
    return tf.constant(self.joined)


def in_fixed_order(
  names: Names, rows: Int64[np.ndarray, ' m']
) -> Int64[np.ndarray, ' m']:
  """Returns some rows, shuffled so that slices contain all classes."""
  keys = splits.order_keys('order', names.take(rows))
  return rows[np.argsort(keys, kind='stable')]


def divide(
  names: Names, groups: Int32[np.ndarray, ' n']
) -> dict[str, Int64[np.ndarray, ' rows']]:
  """Divides files between train and test, in fixed order.

  The test files are a fifth of every group, chosen by a hash of their names, so
  that added files move few of the others to another split.
  """
  keys = splits.order_keys('split', names)
  by_group = np.lexsort((keys, groups))
  in_test = np.zeros(len(names), bool)
  for rows in np.split(by_group, np.cumsum(np.bincount(groups))[:-1]):
    num_test = max(round(len(rows) / 5), 1) if len(rows) > 1 else 0
    in_test[rows[:num_test]] = True
  parts = {'train': np.flatnonzero(~in_test), 'test': np.flatnonzero(in_test)}
  return {split: in_fixed_order(names, rows) for split, rows in parts.items()}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Files:
  """All files of a dataset, with labels and splits.

  Attributes:
    prefix: what precedes each name in its path: a folder and a slash, or ''.
    names: name of every file.
    class_names: name of every class.
    labels: class of every file.
    splits: rows of the files of each whole split, in their fixed order.
    special: rows of FIFOs, sockets and devices, which must not be opened.
    is_divided: whether the files come without splits, so that `splits` are made
      by `divide`.
  """

  prefix: str
  names: Names
  class_names: tuple[str, ...]
  labels: Int32[np.ndarray, ' n']
  splits: dict[str, Int64[np.ndarray, ' rows']]
  special: Int64[np.ndarray, ' special']
  is_divided: bool = False

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
    rows = splits.select(split, self.splits, name)
    if exclude:
      names = map(listing.as_text, self.names.take(rows))
      excluded = np.flatnonzero([n in exclude.ids for n in names])
      rows = rows[exclude.remaining(excluded, len(rows))]
    if subset:
      rows = rows[splits.random_subset(subset, len(rows), seed, name)]
    names = self.names.take(rows)
    special = np.isin(rows, self.special)
    return {
      'name': name,
      'split': split,
      'num_examples': len(rows),
      'class_names': self.class_names,
      'prefix': self.prefix,
      'joined_names': self.names.tensor,
      'name_begins': tf.constant(names.begins),
      'name_lengths': tf.constant(names.lengths),
      'labels': tf.constant(self.labels[rows]),
      'special': tf.constant(special) if special.any() else None,
    }


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FileSource(RandomAccessSource):
  """Image files with one label each.

  Attributes:
    prefix: what precedes each name in its path: a folder and a slash, or ''.
    joined_names: `Names.joined`, a string scalar.
    name_begins: `Names.begins`.
    name_lengths: `Names.lengths`.
    labels: class of every file.
    special: whether each file is a FIFO, a socket or a device, which is never
      opened; None if there are none.
  """

  prefix: str
  # Tensors, because arrays would be copied into every graph.
  joined_names: tf.Tensor
  name_begins: tf.Tensor
  name_lengths: tf.Tensor
  labels: tf.Tensor
  special: tf.Tensor | None = None

  def load(self, record):  # noqa: D102
    index = record['index']
    name = self._name(index)
    path = tf.strings.join([os.fsencode(self.prefix), name])
    if self.special is not None:
      special = tf.gather(self.special, index)
      if tf.executing_eagerly():
        assertions.require(~special, _SPECIAL)
      path = tf.where(special, '', path)  # Cannot be read.
    raw = tf.io.read_file(path)
    # In a graph, decoding fails anyway; this is for the message of an error.
    if tf.executing_eagerly():
      assertions.require(raw.numpy().startswith(_MAGIC), _NOT_AN_IMAGE)
    return raw, tf.gather(self.labels, index)

  def _name(self, index) -> tf.Tensor:
    return tf.strings.substr(
      self.joined_names,
      tf.gather(self.name_begins, index),
      tf.cast(tf.gather(self.name_lengths, index), tf.int64),
    )

  def names(self) -> Names:
    """Returns the names of all files, in their order."""
    return Names(
      self.joined_names.numpy(),
      self.name_begins.numpy(),
      self.name_lengths.numpy(),
    )

  def describe(self, index: int) -> str:  # noqa: D102
    return listing.as_text(os.fsencode(self.prefix) + self._name(index).numpy())

  def stable_id(self, index: int) -> str:  # noqa: D102
    return listing.as_text(self._name(index).numpy())

  def file_names(self) -> list[str]:  # noqa: D102
    return [listing.as_text(os.path.basename(name)) for name in self.names()]

  def fingerprint(self) -> dict[str, Any]:
    """Returns the number of images and a hash of their files, by class.

    The hash covers every name, as given by `_name_in_class`, and the size in
    bytes.
    """
    names, labels = self.names(), self.labels.numpy()
    sizes = self._sizes(names)
    by_class = np.argsort(labels, kind='stable')
    counts = np.bincount(labels, minlength=self.num_classes)
    classes = {}
    for rows, class_name in zip(
      np.split(by_class, np.cumsum(counts)[:-1]), self.class_names, strict=True
    ):
      lines = sorted(
        f'{self._name_in_class(name, class_name)}\t{size}\n'.encode()
        for name, size in zip(
          map(listing.as_text, names.take(rows)), sizes[rows], strict=True
        )
      )
      classes[class_name] = [len(lines), digest(b''.join(lines))]
    return {'classes': classes}

  def _name_in_class(self, name: str, class_name: str) -> str:
    """Returns the part of a name that does not depend on where the data is."""
    del class_name
    return name

  def _sizes(self, names: Names) -> Int64[np.ndarray, ' n']:
    """Returns file sizes in bytes, -1 for files that cannot be read."""
    prefix = os.fsencode(self.prefix)

    def sizes(rows):
      return [_size(prefix + name) for name in names.take(rows)]

    parts = np.array_split(np.arange(len(names)), _THREADS)
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      return np.concatenate([np.int64(s) for s in pool.map(sizes, parts)])

  def take(
    self: _Source,
    rows: Sequence[int] | Int64[np.ndarray, ' m'],
    **changes: Any,
  ) -> _Source:
    """Returns a source with only these examples, and with changed fields."""
    per_file = ('name_begins', 'name_lengths', 'labels', 'special')
    taken = {
      field: tf.gather(values, rows)
      for field in per_file
      if (values := getattr(self, field)) is not None
    }
    return dataclasses.replace(
      self, **{**taken, 'num_examples': len(rows), **changes}
    )


def _size(path: bytes) -> int:
  """Returns the size of a file in bytes, -1 if it cannot be read."""
  try:
    if b'://' in path:
      return epath.Path(os.fsdecode(path)).stat().length
    return os.path.getsize(path)  # 40 times as fast as with epath.
  except OSError:
    return -1
