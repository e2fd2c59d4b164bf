"""Batches: an endless training stream and exact evaluation.

What a training batch holds is a function of (seed, step), nothing else: one
stream of examples runs over the epochs, batch after batch, and the augmentation
of an example is a function of (seed, epoch, index). A restart re-enters the
stream where it was left.

A batch is a dict of NumPy arrays with a row for every example:
  image: float32 (b, h, w, 3) in [-1, 1].
  label: int32 (b,), or float32 (b, k) of zeros and ones for several labels.
  mask: float32 (b,), 1 for examples, 0 for padding.
  index: int64 (b,), position of the example in its source, -1 for padding.

Of a global batch, process i of n holds the i-th n-th of the rows.
"""

from collections.abc import Callable, Iterator
import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from vit_jax.data.examples import AUGMENT_STREAM, Source, random_key

Batch = dict[str, np.ndarray]


def train_batches(
  source: Source,
  transform: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[Batch]:
  """This process's rows of all batches from start_step on, without end.

  Args:
    source: where examples come from.
    transform: from a raw image and a key to an image.
    batch_size: rows of a global batch.
    seed: of order and augmentation.
    start_step: number of the first batch.
    process_index: which process this is.
    process_count: number of processes that share every batch.

  Raises:
    ValueError: if batch_size does not divide by process_count; while reading,
      if an image cannot be decoded or has a label that is not a class.
  """

  def example(record):
    key = random_key(seed, AUGMENT_STREAM, record['epoch'], record['index'])
    raw, label = source.load(record)
    return _row(record, transform(raw, key), label)

  def records_from(step):
    return source.shuffled(seed, step * batch_size)

  share = _Share(batch_size, process_index, process_count)
  reader = _Reader(source, example, records_from, share)
  return reader.read(reader.dataset(start_step), start_step)


def eval_batches(
  source: Source,
  transform: Callable[[tf.Tensor], tf.Tensor],
  *,
  batch_size: int,
  start_step: int = 0,
  only: np.ndarray | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> 'EvalBatches':
  """This process's rows of batches that hold every example once.

  The batches before start_step are left out.

  All processes get the same number of batches; the last global batch is padded
  with rows of mask 0.

  Args:
    source: where examples come from.
    transform: from a raw image to an image.
    batch_size: rows of a global batch.
    start_step: number of the first batch.
    only: (m,) indices, each once, of the examples to take, by rising index in
      any case; None for all.
    process_index: which process this is.
    process_count: number of processes that share every batch.

  Raises:
    ValueError: as for `train_batches`.
  """

  def example(record):
    raw, label = source.load(record)
    return _row(record, transform(raw), label)

  def records_from(step):
    return records.skip(step * batch_size)

  records, num_examples = source.ordered(), source.num_examples
  if only is not None:
    wanted = np.zeros(num_examples, bool)
    wanted[only] = True
    wanted = tf.constant(wanted)
    records = records.filter(lambda record: wanted[record['index']])
    num_examples = len(only)
  share = _Share(batch_size, process_index, process_count)
  reader = _Reader(source, example, records_from, share)
  return EvalBatches(reader, num_examples, start_step)


class EvalBatches:
  """Batches of one pass, anew at every `iter`; `len` counts them."""

  def __init__(self, reader: '_Reader', num_examples: int, start_step: int):
    self._reader = reader
    self._num_examples = num_examples
    self._start_step = start_step
    # Tracing takes longer than digits do.
    self._dataset = reader.dataset(start_step)

  def __len__(self) -> int:
    num_batches = -(-self._num_examples // self._reader.share.batch_size)
    return num_batches - self._start_step

  def __iter__(self) -> Iterator[Batch]:
    # A process whose rows are padding alone reads a batch less than others.
    batches = itertools.chain(
      self._reader.read(self._dataset, self._start_step),
      itertools.repeat(None),
    )
    for batch in itertools.islice(batches, len(self)):
      yield self._pad(batch)

  def _pad(self, batch: Batch | None) -> Batch:
    if batch is not None and len(batch['mask']) == self._reader.share.rows:
      return batch
    rows = self._reader.share.rows
    padded = {
      name: np.zeros((rows, *spec.shape[1:]), spec.dtype.as_numpy_dtype)
      for name, spec in self._dataset.element_spec.items()
    }
    padded['index'][:] = -1
    for name, values in (batch or {}).items():
      padded[name][: len(values)] = values
    return padded


def label_counts(source: Source) -> np.ndarray:
  """Counts the examples of each class, (k,); images are not decoded."""
  counts = np.zeros(source.num_classes, np.int64)
  for batch in _label_batches(source):
    if source.multi_label:
      counts += np.sum(batch > 0, axis=0)
    else:
      counts += np.bincount(batch, minlength=source.num_classes)
  return counts


def labels(source: Source) -> np.ndarray:
  """The label of each example by rising index; images are not decoded."""
  return np.concatenate(list(_label_batches(source)))


def _label_batches(source: Source) -> Iterator[np.ndarray]:
  read = source.ordered().map(
    lambda record: source.load(record)[1], num_parallel_calls=tf.data.AUTOTUNE
  )
  return read.batch(1024).as_numpy_iterator()


def _row(record, image, label):
  index = record['index']
  return {'image': image, 'label': label, 'mask': 1.0, 'index': index}


@dataclasses.dataclass(frozen=True)
class _Share:
  """Which rows of a global batch are this process's."""

  batch_size: int
  process_index: int
  process_count: int

  def __post_init__(self):
    if not 0 <= self.process_index < self.process_count:
      raise ValueError(
        f'process_index {self.process_index} is not one of'
        f' {self.process_count} processes.'
      )
    if self.batch_size < 1 or self.batch_size % self.process_count:
      raise ValueError(
        f'batch_size {self.batch_size} has to be a positive multiple of the'
        f' number of processes, {self.process_count}.'
      )

  @property
  def rows(self) -> int:
    return self.batch_size // self.process_count

  def of(self, records: tf.data.Dataset) -> tf.data.Dataset:
    if self.process_count == 1:
      return records
    blocks = records.batch(self.rows)
    return blocks.shard(self.process_count, self.process_index).unbatch()


@dataclasses.dataclass(frozen=True)
class _Reader:
  """From records to the batches of this process.

  Attributes:
    source: where records come from.
    example: from a record to a row, in TensorFlow.
    records_from: the records of all processes from a step on.
    share: the rows of this process.
  """

  source: Source
  example: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]
  records_from: Callable[[int], tf.data.Dataset]
  share: _Share

  def dataset(self, step: int) -> tf.data.Dataset:
    """Batches from a step on."""
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_warm_start = True  # Reads before it is asked to.
    rows = self.share.of(self.records_from(step)).map(
      tf.autograph.experimental.do_not_convert(self.example),
      num_parallel_calls=tf.data.AUTOTUNE,
    )
    return rows.batch(self.share.rows).prefetch(2).with_options(options)

  def read(self, dataset: tf.data.Dataset, step: int) -> Iterator[Batch]:
    """Starts to read ahead, in threads of TensorFlow's, before it returns."""
    return self._checked(dataset.as_numpy_iterator(), step)

  def _checked(self, batches: Iterator[Batch], step: int) -> Iterator[Batch]:
    """Turns what goes wrong with an example into an error that names it."""
    while True:
      try:
        batch = next(batches)
      except StopIteration:
        return
      except tf.errors.OpError:
        self._name_culprit(step)
        raise
      self._check_labels(batch)
      yield batch
      step += 1

  def _check_labels(self, batch: Batch) -> None:
    if self.source.multi_label:
      return
    label = batch['label']
    wrong = (label < 0) | (label >= self.source.num_classes)
    if wrong.any():
      row = int(wrong.argmax())
      raise ValueError(
        f'{self.source.describe(int(batch["index"][row]))} has label'
        f' {label[row]}, but the classes of {self.source.name} are 0 to'
        f' {self.source.num_classes - 1}; was this split published without'
        ' labels?'
      )

  def _name_culprit(self, step: int) -> None:
    """Reads the examples of a failed batch one by one to find which it was."""
    records = self.share.of(self.records_from(step)).take(self.share.rows)
    for record in records:
      try:
        self.example(record)
      except tf.errors.OpError as error:
        index = int(record['index'])
        raise ValueError(
          f'cannot read {self.source.describe(index)}, example {index} of'
          f' {self.source.name} {self.source.split}: {error.message} Repair it'
          ' or leave it out.'
        ) from error
