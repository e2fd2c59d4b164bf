"""Sources of examples: what every kind of dataset offers the pipeline.

A source yields records: dicts of tensors with `index`, the position of the
example in the source (0 to num_examples - 1), and whatever `load` needs to read
that example. Records are cheap. The pipeline orders and selects records first,
then reads and decodes the images of those it keeps, in parallel.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from typing import Any

from vit_jax.data.lazy_tensorflow import tf

# Random streams derived from one seed.
ORDER_STREAM, AUGMENT_STREAM = 0, 1


class NotPreparedError(ValueError):
  """Raised if TFDS has not prepared the data; says how to get it."""


def random_key(seed: int, stream: int, *positions) -> tf.Tensor:
  """Returns a key for TensorFlow's stateless random operations.

  Args:
    seed: seed of the run.
    stream: the purpose of the numbers, so that no two purposes share them.
    *positions: integers that distinguish the keys of one stream, such as the
      epoch and the index of an example.

  Returns:
    An int64 tensor of shape (2,). Always use both numbers: the second is just
    the last position.
  """
  key = tf.constant([seed, stream], tf.int64)
  for position in positions:
    key = tf.random.fold_in(key, tf.cast(position, tf.int64))
  return key


def part_bounds(size: int, part, num_parts: int) -> tuple:
  """Divides `size` items into nearly equal parts; returns (begin, end) of one.

  The bounds have the type of `part`, the number of the part: an integer or a
  tensor.
  """
  return part * size // num_parts, (part + 1) * size // num_parts


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source(abc.ABC):
  """A split of a dataset.

  Attributes:
    name: the dataset as given by the user, such as `folder:/data/flowers`.
    split: the split as given by the user, such as `train[:98%]`.
    num_examples: number of examples, at least one.
    class_names: name of every class; '0', '1', ... if the dataset has none.
    multi_label: whether an example has any number of labels, not exactly one.
  """

  name: str
  split: str
  num_examples: int
  class_names: tuple[str, ...]
  multi_label: bool = False

  @property
  def num_classes(self) -> int:
    """Size of the label set."""
    return len(self.class_names)

  @property
  @abc.abstractmethod
  def max_readers(self) -> int:
    """The most readers that can share the data without reading any twice."""

  @abc.abstractmethod
  def ordered(self, begin: int = 0, end: int | None = None) -> tf.data.Dataset:
    """Returns the records `begin` to `end` (exclusive), once, by index."""

  @abc.abstractmethod
  def shuffled(
    self, seed: int, start: int, reader: tf.Tensor | int = 0, readers: int = 1
  ) -> tf.data.Dataset:
    """Returns an endless stream of records, shuffled differently every epoch.

    The order of an epoch is a function of (seed, epoch, readers). It is divided
    among the readers, in parts of equal size up to one record, so that together
    they read every record once per epoch. Each reader starts its next epoch
    independently. Records also carry their `epoch`. The first `start` records
    of the stream are skipped.
    """

  @abc.abstractmethod
  def load(self, record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads an example, with TensorFlow operations only.

    Returns:
      The raw image, an encoded file (scalar string) or pixels (h, w, c) of type
      uint8 or uint16; and the label, a scalar int32, or float32 (k,) of zeros
      and ones if `multi_label`.
    """

  @abc.abstractmethod
  def describe(self, index: int) -> str:
    """Returns a name by which a person can find the example."""

  def locate(self, index: int) -> str:
    """Same as `describe`, with file and position, to repair a broken file."""
    return self.describe(index)

  @abc.abstractmethod
  def stable_id(self, index: int) -> str:
    """Returns the example's id, the same in every split of the dataset."""

  @abc.abstractmethod
  def fingerprint(self) -> dict[str, Any]:
    """Returns JSON values that change if examples or labels change.

    They depend neither on the order of the examples nor on where the data is.
    """

  def file_names(self) -> list[str]:
    """Returns every example's file name, without folders, by index.

    Raises:
      ValueError: if the examples of this source have no file names.
    """
    raise ValueError(
      f'the examples of {self.name} have no file names, which are needed to'
      ' look up their labels in a list; use folder:PATH or a TFDS dataset with'
      ' a feature `file_name`, such as imagenet2012.'
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RandomAccessSource(Source):
  """A source with random access: a record holds only the index.

  Any position of the endless stream is reached immediately.
  """

  @property
  def max_readers(self) -> int:  # noqa: D102
    return 1  # Processes read only their own rows anyway.

  def ordered(  # noqa: D102
    self, begin: int = 0, end: int | None = None
  ) -> tf.data.Dataset:
    end = self.num_examples if end is None else end
    return tf.data.Dataset.range(begin, end).map(lambda index: {'index': index})

  def shuffled(  # noqa: D102
    self, seed: int, start: int, reader: tf.Tensor | int = 0, readers: int = 1
  ) -> tf.data.Dataset:
    begin, end = part_bounds(self.num_examples, reader, readers)
    first_epoch, offset = start // (end - begin), start % (end - begin)

    def epoch_records(epoch):
      order = tf.random.experimental.stateless_shuffle(
        tf.range(self.num_examples, dtype=tf.int64),
        random_key(seed, ORDER_STREAM, epoch),
      )
      order = order[begin + tf.where(epoch == first_epoch, offset, 0) : end]
      return tf.data.Dataset.from_tensor_slices(order).map(
        lambda index: {'epoch': epoch, 'index': index}
      )

    return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(
      epoch_records
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _DerivedSource(Source):
  """The examples of another source, `stored`, read or labelled differently."""

  stored: Source

  def describe(self, index: int) -> str:
    return self.stored.describe(index)

  def locate(self, index: int) -> str:
    return self.stored.locate(index)

  def stable_id(self, index: int) -> str:
    return self.stored.stable_id(index)

  def fingerprint(self) -> dict[str, Any]:
    return self.stored.fingerprint()

  def file_names(self) -> list[str]:
    return self.stored.file_names()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InMemorySource(_DerivedSource, RandomAccessSource):
  """The undecoded records of another source, held in memory.

  A few examples of a large file are then read once instead of in every epoch:
  in dSprites, 590,000 records precede the 200 validation examples.

  Attributes:
    stored: the other source.
    records: its records, each field stacked (n, ...).
  """

  records: dict[str, tf.Tensor]

  @classmethod
  def read(cls, source: Source) -> InMemorySource:
    """Reads all records of a source with few examples."""
    records = source.ordered().batch(source.num_examples).get_single_element()
    return cls(
      name=source.name,
      split=source.split,
      num_examples=source.num_examples,
      class_names=source.class_names,
      multi_label=source.multi_label,
      stored=source,
      records=records,
    )

  def load(self, record):  # noqa: D102
    index = record['index']
    return self.stored.load(
      {name: tf.gather(values, index) for name, values in self.records.items()}
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RelabelledSource(_DerivedSource):
  """Another source with the labels of a model.

  Attributes:
    stored: the other source.
    new_labels: the model's label for each label of `stored`.
  """

  new_labels: tuple[int, ...]

  @classmethod
  def create(
    cls,
    source: Source,
    new_labels: tuple[int, ...],
    class_names: tuple[str, ...],
  ) -> RelabelledSource:
    """Returns a source with the labels and class names of the model."""
    return cls(
      name=source.name,
      split=source.split,
      num_examples=source.num_examples,
      class_names=class_names,
      multi_label=source.multi_label,
      stored=source,
      new_labels=new_labels,
    )

  @property
  def max_readers(self) -> int:  # noqa: D102
    return self.stored.max_readers

  def ordered(  # noqa: D102
    self, begin: int = 0, end: int | None = None
  ) -> tf.data.Dataset:
    return self.stored.ordered(begin, end)

  def shuffled(  # noqa: D102
    self, seed: int, start: int, reader: tf.Tensor | int = 0, readers: int = 1
  ) -> tf.data.Dataset:
    return self.stored.shuffled(seed, start, reader, readers)

  def load(self, record):  # noqa: D102
    image, label = self.stored.load(record)
    new_labels = tf.constant(self.new_labels, tf.int32)
    if self.multi_label:
      label = tf.scatter_nd(new_labels[:, None], label, [self.num_classes])
    else:
      # -1, for a missing label, stays -1.
      valid = (label >= 0) & (label < len(self.new_labels))
      label = tf.where(
        valid, tf.gather(new_labels, tf.where(valid, label, 0)), -1
      )
    return image, label


def digest(content: bytes) -> str:
  """Returns a short hash for fingerprints."""
  return hashlib.sha256(content).hexdigest()[:16]
