"""Examples that cannot be read: an error that names them, or a blank row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib

from vit_jax import foreign_errors, printing
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.source import Source


@contextlib.contextmanager
def errors_name_example(
  source: Source,
  records: Callable[[], tf.data.Dataset],
  read: Callable[[dict[str, tf.Tensor]], object],
) -> Iterator[None]:
  """Turns an error raised by TensorFlow into one that names the example.

  Args:
    source: source of the records.
    records: returns the records that may have caused the error; they are read
      one by one with `read` until one fails.
    read: the operation that failed.

  Raises:
    ValueError: instead of the error from TensorFlow.
  """
  try:
    yield
  except tf.errors.OpError as error:
    if foreign_errors.is_out_of_memory(error):
      raise
    where, reason = f'{source.name} {source.split}', error
    with contextlib.suppress(tf.errors.OpError):  # A file cannot be opened.
      for record in records():
        try:
          read(record)
        except tf.errors.OpError as record_error:
          index = int(record['index'])
          where = f'{source.locate(index)}, example {index} of {where}'
          reason = record_error
          break
    where = printing.printable(where)
    raise ValueError(
      f'cannot read {where}: {foreign_errors.message(reason).rstrip(".")}.'
      ' Repair or remove the file, or set'
      ' data.skip_corrupt=true to skip corrupt examples.'
    ) from error


def why(
  source: Source,
  index: int,
  read: Callable[[dict[str, tf.Tensor]], object],
) -> str:
  """Returns why `read` fails for an example, by trying it again."""
  try:
    for record in source.ordered(index, index + 1):
      read({'epoch': tf.constant(0, tf.int64), **record})
  except tf.errors.OpError as error:
    return foreign_errors.message(error)
  return 'its file was read only at the second attempt'


def or_blank(
  example: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
  records: tf.data.Dataset,
) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
  """Wraps `example` to return zeros for a record that cannot be read.

  The `index` of such a row is that of the record. `records` only determine the
  shapes and types of a row.
  """
  example = tf.autograph.experimental.do_not_convert(example)
  spec = records.map(example).element_spec

  def attempt(record):
    blank = {name: tf.zeros(s.shape, s.dtype) for name, s in spec.items()}
    blank['index'] = record['index']
    row = tf.data.Dataset.from_tensors(record).map(example).ignore_errors()
    row = row.concatenate(tf.data.Dataset.from_tensors(blank))
    return row.take(1).get_single_element()

  return attempt
