"""The second pass: writes the images, in their final order, as TFRecord files.

Every file is written by one worker process and renamed when it is complete, so
a preparation resumes with the missing ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import os

from etils import epath
from jaxtyping import Int32, Int64
import numpy as np

from vit_jax.checkpoints import atomic
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.preparation import images, workers
from vit_jax.data.preparation.index import Entry, hash_bytes
from vit_jax.data.preparation.merge import Merged
from vit_jax.data.source import part_bounds


@dataclasses.dataclass(frozen=True)
class Shard:
  """A file to be written.

  Attributes:
    split: its split.
    path: its path.
    lines: positions of the entries of its images in the joined index.
    labels: row of every image in `Merged.label_sets`.
  """

  split: str
  path: epath.Path
  lines: Int64[np.ndarray, ' n']
  labels: Int32[np.ndarray, ' n']


def plan(
  merged: Merged, folder: epath.Path, name: str, shard_bytes: int
) -> list[Shard]:
  """Returns the shards of all splits, of nearly equal numbers of images.

  Args:
    merged: all images.
    folder: folder of the files.
    name: name of the dataset.
    shard_bytes: largest mean size of the files of a split.
  """
  planned = []
  for split, content in merged.splits.items():
    size = len(content.lines)
    count = min(-(-content.num_bytes // shard_bytes), size)
    for number in range(count):
      begin, end = part_bounds(size, number, count)
      path = folder / f'{name}-{split}.tfrecord-{number:05d}-of-{count:05d}'
      part = slice(begin, end)
      planned.append(
        Shard(split, path, content.lines[part], content.labels[part])
      )
  return planned


def write_shard(
  shard: Shard,
  label_sets: Mapping[int, Sequence[int]],
  index: epath.Path,
  max_pixels: int,
) -> int:
  """Writes a shard; returns the number of its images.

  Args:
    shard: the shard.
    label_sets: class ids by row of `Merged.label_sets`; only those of the shard
      are needed.
    index: path of the joined index.
    max_pixels: largest height times width of an image.

  Raises:
    OSError: if the shard cannot be written.
    ValueError: if an image is not what it was when it was indexed.
  """
  contents = workers.read_ahead(_read, _entries(index, shard.lines.tolist()))
  with (
    atomic.renamed(shard.path) as temporary,
    tf.io.TFRecordWriter(os.fspath(temporary)) as writer,
  ):
    labels = (label_sets[row] for row in shard.labels.tolist())
    for (entry, data), class_ids in zip(contents, labels, strict=True):
      if entry.convert:
        data = images.to_png(data, max_pixels)
      writer.write(_record(entry, data, class_ids))
  return len(shard.lines)


def _entries(index: epath.Path, lines: Iterable[int]) -> Iterator[Entry]:
  with index.open('rb') as file:
    for line in lines:
      file.seek(line)
      yield Entry.parse(file.readline())


def _read(entry: Entry) -> bytes:
  try:
    with epath.Path(entry.file).open('rb') as file:
      file.seek(entry.offset)
      data = file.read(entry.size)
  except OSError as error:
    raise ValueError(f'{entry.name} cannot be read again: {error}') from error
  if hash_bytes(data) != entry.digest:
    raise ValueError(
      f'{entry.name} in {entry.file} has changed since it was indexed; restore'
      ' the data and run the same command again.'
    )
  return data


def _record(entry: Entry, data: bytes, class_ids: Sequence[int]) -> bytes:
  """Returns an example as TFDS serializes it."""
  name = entry.name.encode(errors='backslashreplace')
  features = {
    'image': tf.train.Feature(bytes_list=tf.train.BytesList(value=[data])),
    'label': tf.train.Feature(int64_list=tf.train.Int64List(value=class_ids)),
    'file_name': tf.train.Feature(bytes_list=tf.train.BytesList(value=[name])),
  }
  example = tf.train.Example(features=tf.train.Features(feature=features))
  return example.SerializeToString(deterministic=True)
