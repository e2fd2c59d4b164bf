"""Examples that cannot be read: named in an error, or skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib

from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.source import Source


@contextlib.contextmanager
def naming(
  source: Source,
  records: Callable[[], tf.data.Dataset],
  read: Callable[[dict[str, tf.Tensor]], object],
) -> Iterator[None]:
  """Turns an error of TensorFlow's into one that names the example.

  Args:
    source: of the examples.
    records: those among which the error was; they are read one by one.
    read: what was done with each.

  Raises:
    ValueError: in place of the error.
  """
  try:
    yield
  except tf.errors.OpError as error:
    where, reason = f'{source.name} {source.split}', error
    with contextlib.suppress(tf.errors.OpError):  # A file cannot be opened.
      for record in records():
        try:
          read(record)
        except tf.errors.OpError as own:
          index = int(record['index'])
          where = f'{source.locate(index)}, example {index} of {where}'
          reason = own
          break
    raise ValueError(
      f'cannot read {where}: {reason.message} Repair it or leave it out;'
      ' data.skip_corrupt=true goes on without examples that are damaged.'
    ) from error


def or_blank(
  example: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
  records: tf.data.Dataset,
) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
  """Like `example`, but a record that cannot be read gives zeros.

  The `index` of such a row is that of the record.

  Args:
    example: from a record to a row, in TensorFlow.
    records: such as the function is for.
  """
  spec = records.map(example).element_spec

  def attempt(record):
    blank = {name: tf.zeros(s.shape, s.dtype) for name, s in spec.items()}
    blank['index'] = record['index']
    tried = tf.data.Dataset.from_tensors(record).map(example).ignore_errors()
    tried = tried.concatenate(tf.data.Dataset.from_tensors(blank))
    return tried.take(1).get_single_element()

  return attempt
