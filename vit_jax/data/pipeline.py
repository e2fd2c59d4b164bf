"""Batches: an endless training stream and exact evaluation.

A training batch is a function of (seed, step) only: one stream of examples runs
over the epochs, batch after batch, and the augmentation of an example is a
function of (seed, epoch, index). A restart resumes the stream at its step.

A batch is a dict of NumPy arrays with one row per example:
  image: float32 (b, h, w, c) in [-1, 1].
  label: int32 (b,), or float32 (b, k) of zeros and ones for multiple labels.
  mask: float32 (b,), 1 for examples, 0 for padding.
  index: int64 (b,), position of the example in its source, -1 for padding.

Each process holds an equal, contiguous range of the rows of a global training
batch. Files that can only be read sequentially are divided among readers. Each
reader has its own stream and fills fixed rows of every batch, whichever process
runs it, so the batch does not depend on the number of processes. In evaluation,
each process reads a contiguous range of the examples.

An example that cannot be read raises an error. With skip_corrupt, it becomes a
row of zeros with mask 0 that keeps its index; the rest of the stream does not
change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import dataclasses
import itertools
import logging
import math

import numpy as np

from vit_jax import printing
from vit_jax.data import corrupt_examples
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.parallel_reading import numpy_iterator, parallel_map
from vit_jax.data.source import AUGMENT_STREAM, Source, part_bounds, random_key

_log = logging.getLogger(__name__)

MAX_READERS = 64
MAX_LOGGED = 20  # Skipped examples that each process names in its log.

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
  """Yields this process's rows of every batch from start_step on, endlessly.

  Args:
    source: source of the examples.
    transform: function from a raw image and a key to an image.
    batch_size: rows of a global batch.
    seed: seed of order and augmentation.
    start_step: number of the first batch.
    readers: number of readers; 0: `choose_readers`.
    skip_corrupt: whether to skip examples that cannot be read.
    process_index: index of this process.
    process_count: number of processes that share every batch.

  Raises:
    ValueError: if batch_size is not divisible by process_count or readers, or
      there are fewer examples than readers; while reading, if an image cannot
      be read or its label is out of range.
  """
  begin, end = _own_rows(batch_size, process_index, process_count)
  readers = readers or choose_readers(source, batch_size)
  if batch_size % readers or readers > source.num_examples:
    raise ValueError(
      f'data.readers={readers} must divide batch_size={batch_size} and be at'
      f' most {source.num_examples}, the number of examples in {source.name}'
      f' {source.split}; use fewer readers.'
    )

  def example(record):
    key = random_key(seed, AUGMENT_STREAM, record['epoch'], record['index'])
    return _row(source, record, lambda raw: transform(raw, key))

  rows = batch_size // readers  # Per reader.
  first, last = begin // rows, -(-end // rows)

  def records_from(step):
    def stream(number):
      return source.shuffled(seed, step * rows, number, readers)

    def part_of_stream(number):
      # Other processes read this reader's other rows.
      low = tf.maximum(begin - number * rows, 0)
      high = tf.minimum(end - number * rows, rows)
      return (
        stream(number)
        .batch(rows)
        .map(lambda block: {name: x[low:high] for name, x in block.items()})
      )

    numbers = tf.data.Dataset.range(first, last)
    if end - begin == (last - first) * rows:
      return numbers.interleave(stream, last - first, block_length=rows)
    return numbers.interleave(part_of_stream, last - first).unbatch()

  loader = _Loader(source, example, records_from, end - begin, skip_corrupt)
  return loader.read(loader.dataset(start_step), start_step)


def choose_readers(source: Source, batch_size: int) -> int:
  """Returns the number of readers, independent of the number of processes.

  This is the largest power of two that divides batch_size and is at most
  MAX_READERS and the number of files; hosts of any slice can share it evenly.
  """
  limit = min(MAX_READERS, source.max_readers, source.num_examples)
  return math.gcd(batch_size, 1 << (limit.bit_length() - 1))


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
  """Returns this process's rows of batches that cover every example once.

  All processes get the same number of batches; the last ones are padded with
  rows of mask 0.

  Args and errors that are not listed are the same as in `train_batches`.

  Args:
    source: source of the examples.
    transform: function from a raw image to an image.
    only: (m,) unique indices of the examples to read; they are read in
      increasing order. None: all.
  """
  first_row, end_row = _own_rows(batch_size, process_index, process_count)
  rows = end_row - first_row
  num_examples = source.num_examples if only is None else len(only)
  begin, end = part_bounds(num_examples, process_index, process_count)

  def example(record):
    return _row(source, record, transform)

  def records_from(step):
    first = min(begin + step * rows, end)
    if only is None:
      return source.ordered(first, end)
    indices = np.sort(only)[first:end]
    if not len(indices):
      return source.ordered(0, 0)
    selected = np.zeros(indices[-1] - indices[0] + 1, bool)
    selected[indices - indices[0]] = True
    selected, offset = tf.constant(selected), int(indices[0])
    return source.ordered(offset, int(indices[-1]) + 1).filter(
      lambda record: selected[record['index'] - offset]
    )

  loader = _Loader(source, example, records_from, rows, skip_corrupt)
  return EvalBatches(loader, -(-num_examples // batch_size), start_step)


class EvalBatches:
  """The batches of one pass, which every `iter` reads from the start."""

  def __init__(self, loader: _Loader, num_batches: int, start_step: int):
    self._loader = loader
    self._num_batches = num_batches
    self._start_step = start_step
    # Traced once: for small data, tracing takes longer than reading.
    self._dataset = loader.dataset(start_step)

  def __len__(self) -> int:
    return self._num_batches - self._start_step

  def __iter__(self) -> Iterator[Batch]:
    # A process whose last batches are all padding reads fewer of them.
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


def read_images(
  source: Source,
  indices: Iterable[int],
  transform: Callable[[tf.Tensor], tf.Tensor],
  *,
  skip_corrupt: bool = False,
) -> dict[int, np.ndarray]:
  """Reads images by index; all others are skipped without being decoded.

  With `skip_corrupt`, `transform` returns images of a fixed size, and those
  that cannot be read are left out.
  """
  indices = np.array(sorted(indices), np.int64)
  if not len(indices):
    return {}
  batches = eval_batches(
    source, transform, batch_size=1, only=indices, skip_corrupt=skip_corrupt
  )
  return {int(b['index'][0]): b['image'][0] for b in batches if b['mask'][0]}


def label_counts(source: Source, *, skip_corrupt: bool = False) -> np.ndarray:
  """Counts the examples of each class, (k,), without decoding images."""
  counts = np.zeros(source.num_classes, np.int64)
  for batch in _label_batches(source, skip_corrupt):
    if source.multi_label:
      counts += np.sum(batch > 0, axis=0)
    else:
      counts += np.bincount(batch, minlength=source.num_classes)
  return counts


def labels(source: Source) -> np.ndarray:
  """Returns the label of every example by index, without decoding images."""
  return np.concatenate(list(_label_batches(source, skip_corrupt=False)))


def _label_batches(source: Source, skip_corrupt: bool) -> Iterator[np.ndarray]:
  def label(record):
    return source.load(record)[1]

  read = parallel_map(source.ordered(), label)
  if skip_corrupt:
    read = read.ignore_errors()
  with corrupt_examples.errors_name_example(source, source.ordered, label):
    yield from numpy_iterator(read.batch(1024))


def _row(source, record, transform):
  raw, label = source.load(record)
  index = record['index']
  return {'image': transform(raw), 'label': label, 'mask': 1.0, 'index': index}


def _own_rows(batch_size, process_index, process_count):
  """Returns (begin, end) of the rows of a global batch on one process."""
  if not 0 <= process_index < process_count:
    raise ValueError(
      f'process_index {process_index} must be in [0, {process_count}) for'
      f' {process_count} processes.'
    )
  if batch_size < 1 or batch_size % process_count:
    raise ValueError(
      f'batch_size {batch_size} must be a positive multiple of the number of'
      f' processes, {process_count}.'
    )
  return part_bounds(batch_size, process_index, process_count)


@dataclasses.dataclass(frozen=True)
class _Loader:
  """Turns records into the batches of this process.

  Attributes:
    source: source of the records.
    example: function from a record to a row, in TensorFlow.
    records_from: returns this process's records from a step on.
    rows: rows per batch of this process.
    skip_corrupt: whether to skip examples that cannot be read.
  """

  source: Source
  example: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]
  records_from: Callable[[int], tf.data.Dataset]
  rows: int
  skip_corrupt: bool

  def dataset(self, step: int) -> tf.data.Dataset:
    """Returns the batches from a step on."""
    example, records = self.example, self.records_from(step)
    if self.skip_corrupt:
      example = corrupt_examples.or_blank(example, records)
    return parallel_map(records, example).batch(self.rows).prefetch(2)

  def read(self, dataset: tf.data.Dataset, step: int) -> Iterator[Batch]:
    """Starts TensorFlow's threads, which read ahead; returns the batches."""
    return self._checked(numpy_iterator(dataset), step)

  def _checked(self, batches: Iterator[Batch], step: int) -> Iterator[Batch]:
    """Yields batches; raises an error that names the example at fault."""
    skipped = 0
    while True:
      with corrupt_examples.errors_name_example(
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
        if skipped <= MAX_LOGGED:
          _log.warning(
            'skipped %s, which cannot be read: %s%s',
            printing.printable(self.source.locate(int(index))),
            corrupt_examples.why(self.source, int(index), self.example),
            '; further ones are not logged' if skipped == MAX_LOGGED else '',
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
        f'{printing.printable(self.source.describe(int(batch["index"][row])))}'
        ' has label'
        f' {label[row]}, but the classes of {self.source.name} are 0 to'
        f' {self.source.num_classes - 1}; use a split that was published with'
        ' labels.'
      )
