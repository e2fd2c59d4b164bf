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

Of a global training batch, process i of n holds the i-th n-th of the rows.
Files that can only be read in sequence are divided among readers. Each has a
stream of its own, and its rows of every batch, whichever process reads them; so
the batch is the same for any number of processes. In an evaluation, process i
of n reads the i-th n-th of the examples.

An example that cannot be read is an error, or, if it may be skipped, a row of
zeros with mask 0, which keeps its index: nothing else in the stream changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import itertools
import logging
import math

import numpy as np

from vit_jax.data import failures
from vit_jax.data import source as source_lib
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.source import AUGMENT_STREAM, Source, random_key

_log = logging.getLogger(__name__)

MOST_READERS = 64
MOST_NAMED = 20  # Skipped examples that a process names in its log.

Batch = dict[str, np.ndarray]


def train_batches(
  source: Source,
  transform: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  readers: int = 0,
  skip_corrupt: bool = False,
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
    readers: how many readers there are; 0 for `choose_readers`.
    skip_corrupt: whether examples that cannot be read may be skipped.
    process_index: which process this is.
    process_count: number of processes that share every batch.

  Raises:
    ValueError: if batch_size does not divide by process_count or readers, or
      there are fewer examples than readers; while reading, if an image cannot
      be read or has a label that is not a class.
  """
  share = _Share(batch_size, process_index, process_count)
  readers = readers or choose_readers(source, batch_size)
  if batch_size % readers or readers > source.num_examples:
    raise ValueError(
      f'data.readers={readers} has to divide batch_size={batch_size}, and'
      f' {source.name} {source.split} has {source.num_examples} examples for'
      ' them; ask for fewer readers.'
    )

  def example(record):
    key = random_key(seed, AUGMENT_STREAM, record['epoch'], record['index'])
    raw, label = source.load(record)
    return _row(record, transform(raw, key), label)

  rows = batch_size // readers  # Of each reader.
  first, last = share.begin // rows, -(-share.end // rows)

  def records_from(step):
    def stream(number):
      return source.shuffled(seed, step * rows, number, readers)

    def part_of_stream(number):
      # Other processes take the other rows of this reader.
      begin = tf.maximum(share.begin - number * rows, 0)
      end = tf.minimum(share.end - number * rows, rows)
      return (
        stream(number)
        .batch(rows)
        .map(lambda block: {name: x[begin:end] for name, x in block.items()})
      )

    numbers = tf.data.Dataset.range(first, last)
    if share.rows == (last - first) * rows:
      return numbers.interleave(stream, last - first, block_length=rows)
    return numbers.interleave(part_of_stream, last - first).unbatch()

  loader = _Loader(source, example, records_from, share.rows, skip_corrupt)
  return loader.read(loader.dataset(start_step), start_step)


def choose_readers(source: Source, batch_size: int) -> int:
  """As many readers as can divide the work, whatever the processes.

  A power of two, so that it divides over the hosts of any slice: the largest
  that divides batch_size, up to MOST_READERS and the number of files.
  """
  most = min(MOST_READERS, source.max_readers, source.num_examples)
  return math.gcd(batch_size, 1 << (most.bit_length() - 1))


def eval_batches(
  source: Source,
  transform: Callable[[tf.Tensor], tf.Tensor],
  *,
  batch_size: int,
  start_step: int = 0,
  only: np.ndarray | None = None,
  skip_corrupt: bool = False,
  process_index: int = 0,
  process_count: int = 1,
) -> EvalBatches:
  """This process's rows of batches that hold every example once.

  The batches before start_step are left out.

  All processes get the same number of batches; the last ones are padded with
  rows of mask 0.

  Args:
    source: where examples come from.
    transform: from a raw image to an image.
    batch_size: rows of a global batch.
    start_step: number of the first batch.
    only: (m,) indices, each once, of the examples to take, by rising index in
      any case; None for all.
    skip_corrupt: whether examples that cannot be read may be skipped.
    process_index: which process this is.
    process_count: number of processes that share every batch.

  Raises:
    ValueError: as for `train_batches`.
  """
  share = _Share(batch_size, process_index, process_count)
  num_examples = source.num_examples if only is None else len(only)
  begin, end = source_lib.part(num_examples, process_index, process_count)

  def example(record):
    raw, label = source.load(record)
    return _row(record, transform(raw), label)

  def records_from(step):
    first = min(begin + step * share.rows, end)
    if only is None:
      return source.ordered(first, end)
    wanted = np.sort(only)[first:end]
    if not len(wanted):
      return source.ordered(0, 0)
    chosen = np.zeros(wanted[-1] - wanted[0] + 1, bool)
    chosen[wanted - wanted[0]] = True
    chosen, offset = tf.constant(chosen), int(wanted[0])
    return source.ordered(offset, int(wanted[-1]) + 1).filter(
      lambda record: chosen[record['index'] - offset]
    )

  loader = _Loader(source, example, records_from, share.rows, skip_corrupt)
  num_batches = -(-num_examples // batch_size)
  return EvalBatches(loader, num_batches, start_step)


class EvalBatches:
  """Batches of one pass, anew at every `iter`; `len` counts them."""

  def __init__(self, loader: _Loader, num_batches: int, start_step: int):
    self._loader = loader
    self._num_batches = num_batches
    self._start_step = start_step
    # Tracing takes longer than digits do.
    self._dataset = loader.dataset(start_step)

  def __len__(self) -> int:
    return self._num_batches - self._start_step

  def __iter__(self) -> Iterator[Batch]:
    # A process whose rows are padding alone reads a batch less than others.
    batches = itertools.chain(
      self._loader.read(self._dataset, self._start_step),
      itertools.repeat(None),
    )
    for batch in itertools.islice(batches, len(self)):
      yield self._pad(batch)

  def _pad(self, batch: Batch | None) -> Batch:
    rows = self._loader.rows
    if batch is not None and len(batch['mask']) == rows:
      return batch
    padded = {
      name: np.zeros((rows, *spec.shape[1:]), spec.dtype.as_numpy_dtype)
      for name, spec in self._dataset.element_spec.items()
    }
    padded['index'][:] = -1
    for name, values in (batch or {}).items():
      padded[name][: len(values)] = values
    return padded


def label_counts(source: Source, *, skip_corrupt: bool = False) -> np.ndarray:
  """Counts the examples of each class, (k,); images are not decoded."""
  counts = np.zeros(source.num_classes, np.int64)
  for batch in _label_batches(source, skip_corrupt):
    if source.multi_label:
      counts += np.sum(batch > 0, axis=0)
    else:
      counts += np.bincount(batch, minlength=source.num_classes)
  return counts


def labels(source: Source) -> np.ndarray:
  """The label of each example by rising index; images are not decoded."""
  return np.concatenate(list(_label_batches(source, skip_corrupt=False)))


def _label_batches(source: Source, skip_corrupt: bool) -> Iterator[np.ndarray]:
  def label(record):
    return source.load(record)[1]

  read = source.ordered().map(label, num_parallel_calls=tf.data.AUTOTUNE)
  if skip_corrupt:
    read = read.ignore_errors()
  with failures.naming(source, source.ordered, label):
    yield from read.batch(1024).as_numpy_iterator()


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

  @property
  def begin(self) -> int:
    return self.process_index * self.rows

  @property
  def end(self) -> int:
    return self.begin + self.rows


@dataclasses.dataclass(frozen=True)
class _Loader:
  """From records to the batches of this process.

  Attributes:
    source: where records come from.
    example: from a record to a row, in TensorFlow.
    records_from: the records of this process from a step on.
    rows: how many of them make a batch.
    skip_corrupt: whether those that cannot be read may be skipped.
  """

  source: Source
  example: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]
  records_from: Callable[[int], tf.data.Dataset]
  rows: int
  skip_corrupt: bool

  def dataset(self, step: int) -> tf.data.Dataset:
    """Batches from a step on."""
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_warm_start = True  # Reads before it is asked to.
    example = tf.autograph.experimental.do_not_convert(self.example)
    records = self.records_from(step)
    if self.skip_corrupt:
      example = failures.or_blank(example, records)
    rows = records.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    return rows.batch(self.rows).prefetch(2).with_options(options)

  def read(self, dataset: tf.data.Dataset, step: int) -> Iterator[Batch]:
    """Starts to read ahead, in threads of TensorFlow's, before it returns."""
    return self._checked(dataset.as_numpy_iterator(), step)

  def _checked(self, batches: Iterator[Batch], step: int) -> Iterator[Batch]:
    """Turns what goes wrong with an example into an error that names it."""
    skipped = 0
    while True:
      with failures.naming(
        self.source,
        lambda at=step: self.records_from(at).take(self.rows),
        self.example,
      ):
        batch = next(batches, None)
      if batch is None:
        return
      self._check_labels(batch)
      for index in batch['index'][batch['mask'] == 0]:
        skipped += 1
        if skipped <= MOST_NAMED:
          _log.warning(
            'skipped %s, which cannot be read%s',
            self.source.locate(int(index)),
            '; more are counted only' if skipped == MOST_NAMED else '',
          )
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
