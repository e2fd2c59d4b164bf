"""What every source offers: examples, undecoded, in an order one can re-enter.

A source hands out records: dicts of tensors with `index`, the position of the
example in the source (0 to num_examples - 1), and whatever `load` needs to
read that example. Records are cheap; images are read and decoded afterwards,
in parallel, by those who keep the record.
"""

from __future__ import annotations

import abc
import dataclasses

from vit_jax.data.lazy_tensorflow import tf

# Names of the random streams that grow from one seed.
ORDER_STREAM, AUGMENT_STREAM = 0, 1


class NotPreparedError(ValueError):
  """Data that is not there, and what to do about it."""


def random_key(seed: int, stream: int, *positions) -> tf.Tensor:
  """A key for TensorFlow's stateless random operations.

  Args:
    seed: the seed of the run.
    stream: what the numbers are for, so that no two uses share them.
    *positions: integers that tell the keys of one stream apart, such as epoch
      and index of an example.

  Returns:
    An int64 tensor of shape (2,). Only both numbers together are random: the
    second is the last position itself.
  """
  key = tf.constant([seed, stream], tf.int64)
  for position in positions:
    key = tf.random.fold_in(key, tf.cast(position, tf.int64))
  return key


def part(size: int, number, parts: int) -> tuple:
  """Where one of the equal parts of a sequence begins, and where it ends.

  Args:
    size: of the sequence.
    number: which part, an integer or a tensor; the result is of that kind.
    parts: how many there are.
  """
  return number * size // parts, (number + 1) * size // parts


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source(abc.ABC):
  """A split of a dataset.

  Attributes:
    name: the dataset as its user named it, such as `folder:/data/flowers`.
    split: the split as its user wrote it, such as `train[:98%]`.
    num_examples: how many examples there are, at least one.
    class_names: the name of every class; '0', '1', ... where nobody gave names.
    multi_label: whether an example has any number of labels, or exactly one.
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
    """Into how many parts reading can be divided and reads little twice."""

  @abc.abstractmethod
  def ordered(self, begin: int = 0, end: int | None = None) -> tf.data.Dataset:
    """Every record once, by rising index, of those from begin to before end."""

  @abc.abstractmethod
  def shuffled(
    self, seed: int, start: int, reader: tf.Tensor | int = 0, readers: int = 1
  ) -> tf.data.Dataset:
    """One endless stream of records over epochs, each in an order of its own.

    The order of an epoch, a function of (seed, epoch, readers), is cut into
    parts for the readers, equal but for one record. So all readers together
    have every record once in an epoch; each begins the next epoch on its own.
    Records also carry their `epoch`.

    Args:
      seed: the seed of the run.
      start: how many records of the stream to leave out.
      reader: whose part it is.
      readers: how many there are.
    """

  @abc.abstractmethod
  def load(self, record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads an example; TensorFlow operations only.

    Returns:
      The raw image, an encoded file (scalar string) or pixels (h, w, c) of type
      uint8 or uint16; and the label, a scalar int32, or float32 (k,) of zeros
      and ones where `multi_label`.
    """

  @abc.abstractmethod
  def describe(self, example_id: int) -> str:
    """What a person can find the example of that index by."""

  def locate(self, example_id: int) -> str:
    """The same with file and position, for a file that has to be mended."""
    return self.describe(example_id)

  @abc.abstractmethod
  def stable_id(self, index: int) -> str:
    """What the example of that index is called in every part of the dataset."""

  def file_names(self) -> list[str]:
    """The name of every example's file, without folders, by rising index.

    Raises:
      ValueError: if the examples of this source come from no files.
    """
    raise ValueError(
      f'the examples of {self.name} have no file names, by which labels of a'
      ' list could be found; name folder:PATH or a TFDS dataset with a feature'
      ' `file_name`, such as imagenet2012.'
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class IndexedSource(Source):
  """A source with random access: a record is nothing but an index.

  Any position of the endless stream is reached at once.
  """

  @property
  def max_readers(self) -> int:  # noqa: D102
    return 1  # Processes that read other rows of it read nothing twice.

  def ordered(  # noqa: D102
    self, begin: int = 0, end: int | None = None
  ) -> tf.data.Dataset:
    end = self.num_examples if end is None else end
    return tf.data.Dataset.range(begin, end).map(lambda index: {'index': index})

  def shuffled(  # noqa: D102
    self, seed: int, start: int, reader: tf.Tensor | int = 0, readers: int = 1
  ) -> tf.data.Dataset:
    begin, end = part(self.num_examples, reader, readers)
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
