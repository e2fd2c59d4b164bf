"""Datasets of TensorFlow Datasets (TFDS) with images and labels.

TFDS stores examples in TFRecord files, which can only be read sequentially. An
epoch therefore reads the files in a random order, several at a time, through a
shuffle buffer. To resume in the middle of an epoch, the preceding records are
read again, but not decoded. Multiple readers divide the sequence of files into
parts with equal numbers of examples, so that no record is read twice.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
import dataclasses
import operator
import os
from typing import Any

import numpy as np

from vit_jax.data import assertions, decode, splits, tfds_builders
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.label_rules import LabelRule
from vit_jax.data.lazy_tensorflow import tf, tfds
from vit_jax.data.parallel_reading import numpy_iterator, parallel_map
from vit_jax.data.source import (
  ORDER_STREAM,
  Source,
  digest,
  part_bounds,
  random_key,
)

# These determine the order, so they must not depend on the machine.
CONCURRENT_FILES = 16  # All readers together.
MIN_CONCURRENT_FILES = 4  # Per reader.
SHUFFLE_BUFFER = 16_384  # Records of all readers; 1.8 GB of ImageNet images.


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TfdsSource(Source):
  """A split of a prepared TFDS dataset.

  Attributes:
    features: the builder's feature connectors of the image and of the inputs
      of the label.
    label: the rule that computes the label.
    pixel_factor: factor by which pixel values are multiplied.
    file_name: connector of only `file_name`; None if the builder has none.
    shards: for every file, its `path`, the number of records to `skip` and then
      to `take`, the position in the split of the `first` one taken, the number
      of those `kept`, and the `index` of the first one kept.
    version: builder, config and version, such as `cifar10/3.0.2`.
    split_sizes: number of examples in every split of the builder.
    kept: positions in the split of the examples that are neither excluded nor
      outside the subset, in increasing order; None if all are kept.
  """

  features: Any
  label: LabelRule
  pixel_factor: int
  file_name: Any
  shards: Mapping[str, np.ndarray]
  version: str
  split_sizes: Mapping[str, int]
  kept: tf.Tensor | None

  @property
  def max_readers(self) -> int:  # noqa: D102
    return len(self.shards['path'])

  def ordered(  # noqa: D102
    self, begin: int = 0, end: int | None = None
  ) -> tf.data.Dataset:
    end = self.num_examples if end is None else end
    order = tf.range(len(self.shards['path']))
    return self._records(order, begin, end, concurrent=1)

  def shuffled(  # noqa: D102
    self, seed: int, start: int, reader: tf.Tensor | int = 0, readers: int = 1
  ) -> tf.data.Dataset:
    begin, end = part_bounds(self.num_examples, reader, readers)
    first_epoch, offset = start // (end - begin), start % (end - begin)
    concurrent = max(CONCURRENT_FILES // readers, MIN_CONCURRENT_FILES)

    def epoch_records(epoch):
      order = tf.random.experimental.stateless_shuffle(
        tf.range(len(self.shards['path'])),
        random_key(seed, ORDER_STREAM, epoch),
      )
      key = random_key(seed, ORDER_STREAM, epoch, reader)
      records = self._records(order, begin, end, concurrent).shuffle(
        min(SHUFFLE_BUFFER // readers, self.num_examples),
        seed=tf.random.stateless_uniform((), key, None, None, tf.int64),
        reshuffle_each_iteration=False,
      )
      return records.map(lambda record: {'epoch': epoch, **record})

    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    return epochs.flat_map(epoch_records).skip(offset)

  def _records(
    self, order: tf.Tensor, begin: int, end: int, concurrent: int
  ) -> tf.data.Dataset:
    """Returns the records `begin` to `end` (exclusive) of the files in order.

    `concurrent` files are interleaved. A record that cannot be read is an empty
    string, as are all records after it in the same file.
    """

    def read(shard):
      # Without this, opening a missing file would be retried forever.
      opened = tf.data.FixedLengthRecordDataset(shard['path'], 1).take(1)
      with tf.control_dependencies(
        [opened.reduce(0, lambda count, _: count + 1)]
      ):
        path = tf.identity(shard['path'])
      records = tf.data.TFRecordDataset(path).ignore_errors()
      records = records.concatenate(tf.data.Dataset.from_tensors('').repeat())
      records = records.skip(shard['skip']).take(shard['take'])
      first = shard['first']
      positions = tf.data.Dataset.range(first, first + shard['take'])
      return tf.data.Dataset.zip({'index': positions, 'serialized': records})

    shards = self._select_shards(order, begin, end)
    records = tf.data.Dataset.from_tensor_slices(shards).interleave(
      read,
      cycle_length=concurrent,
      num_parallel_calls=concurrent,
      deterministic=True,
    )
    if self.kept is None:
      return records

    def with_index(record):
      position = record['index']
      index = tf.searchsorted(self.kept, position[None], out_type=tf.int64)[0]
      found = tf.gather(self.kept, tf.minimum(index, len(self.kept) - 1))
      return {**record, 'index': tf.where(found == position, index, -1)}

    return records.map(with_index).filter(lambda record: record['index'] >= 0)

  def _select_shards(
    self, order: tf.Tensor, begin: int, end: int
  ) -> dict[str, tf.Tensor]:
    """Returns `shards` in order, cut to the examples `begin` to `end`."""
    shards = {name: tf.gather(v, order) for name, v in self.shards.items()}
    stop = tf.cumsum(shards['kept'])
    start = stop - shards['kept']
    # Within each file, counting only kept examples.
    low = tf.maximum(begin - start, 0)
    high = tf.minimum(end - start, shards['kept'])
    inside = low < high
    shards = {n: tf.boolean_mask(v, inside) for n, v in shards.items()}
    low, high = tf.boolean_mask(low, inside), tf.boolean_mask(high, inside)
    first = self._positions(shards['index'] + low)
    last = self._positions(shards['index'] + high - 1)
    return {
      'path': shards['path'],
      'skip': shards['skip'] + first - shards['first'],
      'take': last - first + 1,
      'first': first,
    }

  def _positions(self, index: tf.Tensor) -> tf.Tensor:
    """Returns the positions of examples in the split."""
    return index if self.kept is None else tf.gather(self.kept, index)

  def load(self, record):  # noqa: D102
    check = assertions.require(
      tf.strings.length(record['serialized']) > 0,
      'the file is missing, or damaged in or before this record',
    )
    with tf.control_dependencies([check]):
      serialized = tf.identity(record['serialized'])
    example = self.features.deserialize_example(
      serialized, decoders={'image': tfds.decode.SkipDecoding()}
    )
    image, label = example['image'], self.label.compute(example)
    if self.pixel_factor != 1:
      image = decode.to_rgb(image) * self.pixel_factor
    if self.multi_label:
      one_hot = tf.one_hot(label, self.num_classes, True, False)
      label = tf.cast(tf.reduce_any(one_hot, axis=0), tf.float32)
    else:
      label = tf.cast(label, tf.int32)
    return image, label

  def describe(self, index: int) -> str:  # noqa: D102
    return f'{self.name}/{self.split}#{int(self._positions(index))}'

  def locate(self, index: int) -> str:  # noqa: D102
    path, row = self._file_and_row(index)
    return f'{self.describe(index)} (record {row}, counted from 0, of {path})'

  def stable_id(self, index: int) -> str:
    """Returns file and row, as TFDS does for ReadConfig(add_tfds_id=True)."""
    path, row = self._file_and_row(index)
    return f'{os.path.basename(path)}__{row}'

  def fingerprint(self) -> dict[str, Any]:  # noqa: D102
    fields = {'version': self.version, 'split_sizes': dict(self.split_sizes)}
    if self.kept is not None:
      kept = self.kept.numpy().astype('<i8')
      fields['kept'] = digest(kept.tobytes())
    return fields

  def _file_and_row(self, index: int) -> tuple[str, int]:
    """Returns the path of an example's file and the example's row in it."""
    position = int(self._positions(index))
    shards = self.shards
    shard = np.searchsorted(shards['first'], position, 'right') - 1
    row = position - shards['first'][shard] + shards['skip'][shard]
    return shards['path'][shard], int(row)

  def file_names(self) -> list[str]:  # noqa: D102
    if self.file_name is None:
      return super().file_names()
    names = parallel_map(
      self.ordered(),
      lambda record: self.file_name.deserialize_example(record['serialized']),
    )
    return [
      os.path.basename(example['file_name'].decode())
      for example in numpy_iterator(names)
    ]


def open_tfds(
  builder_name: str,
  split: str,
  *,
  name: str,
  label: str | LabelRule = 'label',
  pixel_factor: int = 1,
  num_examples: Mapping[str, int] | None = None,
  data_dir: str = '',
  manual_dir: str = '',
  download: bool = False,
  subset: int = 0,
  seed: int = 0,
  exclude: Exclusions | None = None,
) -> TfdsSource:
  """Opens a split of a TFDS dataset.

  Args:
    builder_name: `name[/config][:version]`.
    split: a split in TFDS's notation, such as `train[:98%]` or
      `train+validation`.
    name: name of the source.
    label: the feature with an example's label or labels, or a rule.
    pixel_factor: factor by which to multiply pixel values.
    num_examples: expected sizes of the builder's splits; None: any.
    exclude: examples to exclude.
    data_dir, manual_dir, download, subset, seed: see `registry.open_source`.

  Raises:
    NotPreparedError: if the data is not prepared, or preparing it fails.
    ValueError: if there are no labelled images, the split is unknown, splits
      have unexpected sizes, or `exclude` does not match them.
  """
  builder = tfds_builders.find(builder_name, name, data_dir)
  features, rule, multi_label = _image_and_label(builder, name, label)
  if not builder.info.splits and download:
    tfds_builders.prepare(builder, name, manual_dir)
  tfds_builders.check_prepared(builder, name, num_examples or {})
  shards = tfds_builders.find_shards(builder, name, split)
  size = int(shards['take'].sum())
  kept = np.arange(size)
  if exclude:
    kept = exclude.remaining(_positions(exclude.ids, shards), size)
  if subset:
    whole = f'{name}/{split}'
    kept = kept[splits.random_subset(subset, len(kept), seed, whole)]
  index = np.searchsorted(kept, shards['first'])
  stop = np.searchsorted(kept, shards['first'] + shards['take'])
  shards |= {'kept': stop - index, 'index': index}
  file_name = dict(builder.info.features.items()).get('file_name')
  if file_name:
    file_name = tfds.features.FeaturesDict({'file_name': file_name})
  return TfdsSource(
    name=name,
    split=split,
    num_examples=len(kept),
    class_names=rule.class_names,
    multi_label=multi_label,
    features=features,
    label=rule,
    pixel_factor=pixel_factor,
    file_name=file_name,
    shards=shards,
    version=builder.info.full_name,
    split_sizes={
      split: info.num_examples for split, info in builder.info.splits.items()
    },
    kept=None if len(kept) == size else tf.constant(kept),
  )


def _image_and_label(builder, name, label):
  """Returns what `TfdsSource` needs to read the image and its label.

  Returns:
    Connectors of only the image and the inputs of the label, the rule that
    computes the label, and whether an image may have multiple labels.
  """
  features = dict(builder.info.features.items())
  image = features.get('image')
  multi_label = False
  if isinstance(label, LabelRule):
    needed, meaning = label.features, 'to compute the label from'
    is_labeled = all(feature in features for feature in needed)
  else:
    needed, meaning = (label,), '(ClassLabel or a Sequence of ClassLabels)'
    multi_label = isinstance(features.get(label), tfds.features.Sequence)
    classes = getattr(features.get(label), 'feature', features.get(label))
    is_labeled = isinstance(classes, tfds.features.ClassLabel)
  if (
    not isinstance(image, tfds.features.Image)
    or image.np_dtype not in (np.uint8, np.uint16)
    or not is_labeled
  ):
    raise ValueError(
      f'{name} needs a feature `image` (Image of type uint8 or uint16) and a'
      f' feature `{"`, `".join(needed)}` {meaning}, but has'
      f' {builder.info.features}; choose another dataset.'
    )
  if isinstance(label, str):
    names = tuple(map(classes.int2str, range(classes.num_classes)))
    label = LabelRule((label,), names, operator.itemgetter(label))
  connectors = {feature: features[feature] for feature in ('image', *needed)}
  return tfds.features.FeaturesDict(connectors), label, multi_label


def _positions(ids, shards):
  """Returns the sorted positions of those stable ids that are in the split."""
  rows = collections.defaultdict(list)
  for stable_id in ids:
    file, _, row = stable_id.rpartition('__')
    if row.isdigit():
      rows[file].append(int(row))
  positions = [np.zeros(0, np.int64)]
  for path, skip, take, first in zip(*shards.values(), strict=True):
    offsets = np.array(rows.get(os.path.basename(path), ()), np.int64) - skip
    positions.append(first + offsets[(offsets >= 0) & (offsets < take)])
  return np.sort(np.concatenate(positions))
