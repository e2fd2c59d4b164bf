"""Any TensorFlow Datasets (TFDS) builder with an image and its label.

TFDS stores examples in TFRecord files, which can only be read in sequence. An
epoch therefore goes through the files in a random order, several at a time, and
through a buffer that shuffles; entering it in the middle means to read what
comes before, without decoding it. Several readers go through parts of the order
of files, cut to equal numbers of examples, so that none reads what another has.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
import dataclasses
import operator
import os
from typing import Any

import numpy as np

from vit_jax.data import decode, splits, tfds_builders
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.label_rules import LabelRule
from vit_jax.data.lazy_tensorflow import tf, tfds
from vit_jax.data.source import ORDER_STREAM, Source, part, random_key

# Part of the order, so never a matter of the machine; of all readers together.
CONCURRENT_FILES = 16
MIN_CONCURRENT_FILES = 4  # Of one reader.
SHUFFLE_BUFFER = 16_384  # Records; 1.8 GB of ImageNet's photos.


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TfdsSource(Source):
  """A split of a prepared TFDS dataset.

  Attributes:
    features: the builder's connectors of the image, and of what the label is
      computed from.
    label: how it is computed.
    pixel_factor: what the pixels of an image are multiplied by.
    file_name: its connector of `file_name`, alone; None if it has none.
    shards: for every file its `path`, how many records to `skip` and then to
      `take`, and the `first` position of these in the split; how many of them
      are `kept`, and the `index` of the first of those.
    kept: rising positions in the split of the examples that are not left out;
      None where all are kept.
  """

  features: Any
  label: LabelRule
  pixel_factor: int
  file_name: Any
  shards: Mapping[str, np.ndarray]
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
    begin, end = part(self.num_examples, reader, readers)
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
    """Of the files in that order, the records begin to before end.

    Some files are read side by side. A record that cannot be read, and all
    behind it in its file, are empty.
    """

    def read(cut):
      # Without this, a file that cannot be opened would be tried for ever.
      opened = tf.data.FixedLengthRecordDataset(cut['path'], 1).take(1)
      with tf.control_dependencies(
        [opened.reduce(0, lambda count, _: count + 1)]
      ):
        path = tf.identity(cut['path'])
      records = tf.data.TFRecordDataset(path).ignore_errors()
      records = records.concatenate(tf.data.Dataset.from_tensors('').repeat())
      records = records.skip(cut['skip']).take(cut['take'])
      first = cut['first']
      positions = tf.data.Dataset.range(first, first + cut['take'])
      return tf.data.Dataset.zip({'index': positions, 'serialized': records})

    cuts = self._cut(order, begin, end)
    records = tf.data.Dataset.from_tensor_slices(cuts).interleave(
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

  def _cut(
    self, order: tf.Tensor, begin: int, end: int
  ) -> dict[str, tf.Tensor]:
    """The same columns for what lies between two places of that order."""
    shards = {name: tf.gather(v, order) for name, v in self.shards.items()}
    stop = tf.cumsum(shards['kept'])
    start = stop - shards['kept']
    # Within each file, counted in examples that are kept.
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
    """Positions in the split of examples."""
    return index if self.kept is None else tf.gather(self.kept, index)

  def load(self, record):  # noqa: D102
    readable = tf.debugging.Assert(
      tf.strings.length(record['serialized']) > 0,
      ['the file is damaged, in this record or before it, or is not there.'],
    )
    with tf.control_dependencies([readable]):
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

  def describe(self, example_id: int) -> str:  # noqa: D102
    position = int(self._positions(example_id))
    return f'{self.name}/{self.split}#{position}'

  def locate(self, example_id: int) -> str:  # noqa: D102
    path, row = self._place(example_id)
    return f'{self.describe(example_id)} (record {row}, from 0, of {path})'

  def stable_id(self, index: int) -> str:
    """File and position in it, as TFDS's own ReadConfig(add_tfds_id=True)."""
    path, row = self._place(index)
    return f'{os.path.basename(path)}__{row}'

  def _place(self, index: int) -> tuple[str, int]:
    """The file of an example, and its row there."""
    position = int(self._positions(index))
    shards = self.shards
    shard = np.searchsorted(shards['first'], position, 'right') - 1
    row = position - shards['first'][shard] + shards['skip'][shard]
    return shards['path'][shard], int(row)

  def file_names(self) -> list[str]:  # noqa: D102
    if self.file_name is None:
      return super().file_names()
    names = self.ordered().map(
      lambda record: self.file_name.deserialize_example(record['serialized']),
      num_parallel_calls=tf.data.AUTOTUNE,
    )
    return [
      os.path.basename(example['file_name'].decode())
      for example in names.as_numpy_iterator()
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
  """Opens a split, with TFDS's own split arithmetic.

  Args:
    builder_name: `name[/config][:version]`.
    split: such as `train[:98%]` or `train+validation`.
    name: the name of the source for people.
    label: the feature that holds an example's label or labels, or a rule.
    pixel_factor: what the pixels of an image are multiplied by.
    num_examples: what the builder's splits must hold; None where it does not
      matter.
    data_dir: where prepared data lies; empty for TFDS's own default.
    manual_dir: where files lie that TFDS cannot download; empty for TFDS's own
      default.
    download: whether to download and prepare what is not there.
    subset: if not zero, how many examples to draw at random.
    seed: seed of the subset.
    exclude: what to leave out.

  Raises:
    NotPreparedError: if the data is not there or cannot be prepared.
    ValueError: if it has no image with labels, the split is unknown, splits
      have other sizes than they must, or what to leave out does not fit them.
  """
  builder = tfds_builders.find(builder_name, name, data_dir)
  features = _image_and_label(builder, name, label)
  if not builder.info.splits and download:
    tfds_builders.prepare(builder, name, manual_dir)
  tfds_builders.check_prepared(builder, name)
  _check_sizes(builder, name, num_examples or {})
  multi_label = False
  if isinstance(label, str):
    multi_label = isinstance(features[label], tfds.features.Sequence)
    label = _stored_label(features, label)
  shards = _find_shards(builder, name, split)
  size = int(shards['take'].sum())
  kept = np.arange(size)
  if exclude:
    kept = exclude.kept(_positions(exclude.ids, shards), size)
  if subset:
    kept = kept[
      splits.random_subset(subset, len(kept), seed, f'{name}/{split}')
    ]
  index = np.searchsorted(kept, shards['first'])
  stop = np.searchsorted(kept, shards['first'] + shards['take'])
  shards |= {'kept': stop - index, 'index': index}
  return TfdsSource(
    name=name,
    split=split,
    num_examples=len(kept),
    class_names=label.class_names,
    multi_label=multi_label,
    features=features,
    label=label,
    pixel_factor=pixel_factor,
    file_name=_file_name(builder),
    shards=shards,
    kept=None if len(kept) == size else tf.constant(kept),
  )


def _image_and_label(builder, name, label):
  """The connectors that decode image and label, and nothing else."""
  features = dict(builder.info.features.items())
  image = features.get('image')
  if isinstance(label, LabelRule):
    needed, meaning = label.features, 'of which its label is made'
    labelled = all(feature in features for feature in needed)
  else:
    needed, meaning = (label,), '(ClassLabel, or a Sequence of them)'
    classes = features.get(label)
    classes = getattr(classes, 'feature', classes)
    labelled = isinstance(classes, tfds.features.ClassLabel)
  if (
    not isinstance(image, tfds.features.Image)
    or image.np_dtype not in (np.uint8, np.uint16)
    or not labelled
  ):
    raise ValueError(
      f'{name} needs a feature `image` (Image of type uint8 or uint16) and a'
      f' feature `{"`, `".join(needed)}` {meaning}; it has'
      f' {builder.info.features}.'
    )
  return tfds.features.FeaturesDict(
    {feature: features[feature] for feature in ('image', *needed)}
  )


def _stored_label(features, label):
  """The rule of a label that is stored as it is."""
  classes = getattr(features[label], 'feature', features[label])
  return LabelRule(
    (label,),
    tuple(map(classes.int2str, range(classes.num_classes))),
    operator.itemgetter(label),
  )


def _check_sizes(builder, name, expected):
  found = {
    split: builder.info.splits[split].num_examples
    if split in builder.info.splits
    else 0
    for split in expected
  }
  if found != dict(expected):
    raise ValueError(
      f'{name}: the data in {builder.data_path} has splits of'
      f' {_sizes(found)} examples, but {_sizes(expected)} are expected, of'
      ' which the splits of the task are parts; prepare it anew.'
    )


def _sizes(num_examples):
  return ', '.join(f'{split} ({size})' for split, size in num_examples.items())


def _file_name(builder):
  """The connector that decodes `file_name`, and nothing else; None without."""
  feature = dict(builder.info.features.items()).get('file_name')
  return feature and tfds.features.FeaturesDict({'file_name': feature})


def _find_shards(builder, name, split):
  """The files of a split and the part of each that belongs to it."""
  file_format = builder.info.file_format
  if file_format is not tfds.core.FileFormat.TFRECORD:
    raise ValueError(
      f'{name} in {builder.data_path} is stored as {file_format.value}; only'
      ' tfrecord can be read.'
    )
  try:
    shards = builder.info.splits[split].file_instructions
  except (ValueError, KeyError, AssertionError) as error:
    known = _sizes(
      {key: part.num_examples for key, part in builder.info.splits.items()}
    )
    reason = str(error).splitlines()[0]
    raise ValueError(
      f'{name}: cannot read split {split!r} ({reason}); {splits.SYNTAX}.'
      f' Splits: {known}.'
    ) from error
  if not shards:
    raise ValueError(f'{name}: split {split!r} holds no example.')
  take = np.array([shard.take for shard in shards], np.int64)
  return {
    'path': np.array([os.fspath(shard.filename) for shard in shards]),
    'skip': np.array([shard.skip for shard in shards], np.int64),
    'take': take,
    'first': np.cumsum(take) - take,
  }


def _positions(ids, shards):
  """Rising positions in the split of those stable ids that it holds."""
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
