"""Many short sequences in a few arrays: names of files, lists of labels.

A Python object per sequence would take five times the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import functools

from jaxtyping import Int32, Int64
import numpy as np

from vit_jax.data.lazy_tensorflow import tf

_AT_ONCE = 2**12  # Items of an array that are in another form at a time.


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged:
  """Strings or lists of integers: 12 bytes of memory each besides the content.

  Attributes:
    joined: the content of these sequences and possibly others, bytes or int32;
      sequence i is `joined[begins[i] : begins[i] + lengths[i]]`.
    begins: position of each sequence.
    lengths: length of each sequence.
  """

  joined: bytes | Int32[np.ndarray, ' total']
  begins: Int64[np.ndarray, ' n']
  lengths: Int32[np.ndarray, ' n']

  @classmethod
  def terminated(cls, joined: bytes) -> Ragged:
    r"""Returns strings that are joined with a zero byte after each."""
    ends = [  # In parts, because comparing all at once would take more memory.
      start + np.flatnonzero(np.frombuffer(joined[start:stop], np.uint8) == 0)
      for start, stop in _ranges(len(joined))
    ]
    ends = np.concatenate(ends or [np.zeros(0, np.int64)])
    begins = np.roll(ends, 1) + 1
    begins[:1] = 0
    return cls(joined, begins, (ends - begins).astype(np.int32))

  def __len__(self) -> int:
    return len(self.begins)

  def __iter__(self) -> Iterator[bytes | Int32[np.ndarray, ' length']]:
    for start, stop in _ranges(len(self)):
      begins = self.begins[start:stop]
      ends = begins + self.lengths[start:stop]
      for begin, end in np.stack([begins, ends], 1).tolist():
        yield self.joined[begin:end]

  def take(self, rows: Int64[np.ndarray, ' m'] | slice) -> Ragged:
    """Returns some of the sequences."""
    return Ragged(self.joined, self.begins[rows], self.lengths[rows])

  def flat(self) -> Int32[np.ndarray, ' total']:
    """Returns the items of these lists, one list after the other."""
    starts = np.cumsum(self.lengths) - self.lengths
    offsets = np.repeat(self.begins - starts, self.lengths)
    return self.joined[offsets + np.arange(len(offsets))]

  def without_first(self, count: int) -> Ragged:
    """Returns the sequences without their first items."""
    return Ragged(self.joined, self.begins + count, self.lengths - count)

  @functools.cached_property
  def _joined_tensor(self) -> tf.Tensor:
    return tf.constant(self.joined)

  def tensors(self, rows: Int64[np.ndarray, ' m']) -> RaggedTensors:
    """Returns some of the sequences; calls share the tensor of the content."""
    return RaggedTensors(
      self._joined_tensor,
      tf.constant(self.begins[rows]),
      tf.constant(self.lengths[rows]),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class RaggedTensors:
  """Same as `Ragged`, for graphs; arrays would be copied into every graph.

  Attributes:
    joined: a string scalar, or int32 (total,).
    begins: int64 (n,).
    lengths: int32 (n,).
  """

  joined: tf.Tensor
  begins: tf.Tensor
  lengths: tf.Tensor

  def __getitem__(self, index: tf.Tensor | int) -> tf.Tensor:
    """Returns a sequence, a string scalar or int32 (length,)."""
    begin = tf.gather(self.begins, index)
    length = tf.cast(tf.gather(self.lengths, index), tf.int64)
    if self.joined.dtype == tf.string:
      return tf.strings.substr(self.joined, begin, length)
    return self.joined[begin : begin + length]

  def take(
    self, rows: Sequence[int] | Int64[np.ndarray, ' m']
  ) -> RaggedTensors:
    """Returns some of the sequences."""
    return RaggedTensors(
      self.joined, tf.gather(self.begins, rows), tf.gather(self.lengths, rows)
    )

  def numpy(self) -> Ragged:
    """Returns the sequences outside of graphs."""
    return Ragged(*(x.numpy() for x in vars(self).values()))


def _ranges(count: int) -> Iterator[tuple[int, int]]:
  """Yields the bounds of parts of at most _AT_ONCE items."""
  for start in range(0, count, _AT_ONCE):
    yield start, min(start + _AT_ONCE, count)
