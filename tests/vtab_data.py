"""The datasets of VTAB in miniature: real split sizes, tiny images.

Rows come from TFDS's mock data, with meaningful values where labels depend on
them. Every split has its real size, but only files that a task reads are
written: shards end at the boundaries of the parts that tasks use.
"""

import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.data import vtab_tasks

NUM_ROWS = 24  # Distinct rows of a dataset; splits repeat them.


# Config values that make a run on this data short.
SMALL = {
  'total_steps': 4,
  'batch_size': 16,
  'eval_batch_size': 2048,
  'data__image_size': 8,
  'model__patch_size': 8,
  'model__depth': 1,
  'model__width': 16,
  'model__mlp_dim': 16,
  'model__heads': 2,
  'model__dtype': 'float32',
  'optim__warmup_steps': 1,
  'sweep__job': 'pretrain',
  'sweep__seeds': 1,
}


def arguments(data_dir, workdir, tasks=(), **values):
  """Returns the command line of such a run."""
  keys = SMALL | {'data__dir': data_dir} | values
  return [
    f'--config=configs/vtab.py:{",".join(("ViT-Ti/16", *tasks))}',
    f'--workdir={workdir}',
    *(f'--config.{k.replace("__", ".")}={v}' for k, v in keys.items()),
  ]


def prepare(data_dir, names=tuple(vtab_tasks.TASKS)):
  """Writes the data of these tasks."""
  by_builder = {}
  for name in names:
    task = vtab_tasks.TASKS[name]
    by_builder.setdefault(task.dataset.builder, []).append(task)
  for builder_name, tasks in by_builder.items():
    _write(data_dir, builder_name, tasks)


def _write(data_dir, builder_name, tasks):
  builder = tfds.builder(builder_name, data_dir=data_dir)
  folder = pathlib.Path(builder.data_path)
  folder.mkdir(parents=True)
  records = _records(builder_name, builder.info.features)
  infos = []
  for split, size in tasks[0].dataset.num_examples.items():
    used = {part for task in tasks for part in _used(task, split, size)}
    cuts = sorted({0, size}.union(*used))
    lengths = [b - a for a, b in zip(cuts, cuts[1:], strict=False)]
    template = tfds.core.ShardedFileTemplate(
      data_dir=builder.data_path,
      dataset_name=builder.name,
      split=split,
      filetype_suffix='tfrecord',
    )
    infos.append(
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=lengths,
        num_bytes=0,
        filename_template=template,
      )
    )
    for shard, (begin, length) in enumerate(zip(cuts, lengths, strict=False)):
      if not any(a <= begin < b for a, b in used):
        continue
      path = template.sharded_filepath(
        shard_index=shard, num_shards=len(lengths)
      )
      with tf.io.TFRecordWriter(str(path)) as writer:
        for i in range(begin, begin + length):
          writer.write(records[i % NUM_ROWS])
  builder.info.set_splits(tfds.core.splits.SplitDict(infos))
  builder.info.write_to_directory(folder)


def _used(task, split, size):
  """Yields (begin, end) of the parts of a whole split that a task reads."""
  for expression in task.splits.values():
    for part in expression.split('+'):
      name, _, limits = part.rstrip(']').partition('[')
      begin, _, end = limits.partition(':')
      if name == split:
        yield int(begin or 0), int(end or size)


def _records(builder_name, features):
  with tfds.testing.mock_data(num_examples=NUM_ROWS):
    rows = list(tfds.as_numpy(tfds.load(builder_name, split='train')))
  # Small images are faster to write.
  channels = features['image'].shape[-1]
  features = dict(features.items())
  features['image'] = tfds.features.Image(shape=(None, None, channels))
  features = tfds.features.FeaturesDict(features)
  rng = np.random.RandomState(0)
  records = []
  for number, row in enumerate(rows):
    row['image'] = row['image'][:8, :8]
    if 'dsprites' in builder_name:
      row['image'] %= 2
    if 'clevr' in builder_name:
      row['objects'] = _clevr_objects(row['objects'], 3 + number % 8, rng)
    if 'kitti' in builder_name:
      row['objects']['location'] *= 40
    # Mock data has random boxes, and sequences as columns instead of rows.
    for key, value in row.items():
      if key == 'head_bbox':
        row[key] = _whole(value)
      if isinstance(value, dict):
        if 'bbox' in value:
          value['bbox'] = _whole(value['bbox'])
        row[key] = [
          dict(zip(value, items, strict=True))
          for items in zip(*value.values(), strict=False)
        ]
    records.append(features.serialize_example(features.encode_example(row)))
  return records


def _whole(boxes):
  """Returns as many boxes around whole images."""
  return np.broadcast_to(np.float32([0, 0, 1, 1]), boxes.shape)


def _clevr_objects(objects, count, rng):
  """Returns `count` objects of a scene at various distances."""
  first = {
    name: np.resize(values, (count, *values.shape[1:]))
    for name, values in objects.items()
  }
  first['pixel_coords'] = rng.uniform(7.5, 12, (count, 3)).astype(np.float32)
  return first
