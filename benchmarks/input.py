"""Measures how fast JPEG files and TFRecords become batches, by operation.

  python benchmarks/input.py PHOTOS

PHOTOS is a folder of JPEG files, such as ImageNet photos in their original
sizes. Candidates alternate; each round starts a new iterator and skips its
first batches. Prints images per second on all cores together with the range,
the ratio to bare decoding (`tf.io.decode_jpeg` of the same files, in parallel),
or to the first candidate if `--only` leaves that out, images per second and
core, and the CPU time of this process per image, which depends less on what
else the machine does. If torchvision can be imported, its usual training
transform is a peer, with as many workers as there are cores.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
import itertools
import os
import pathlib
import statistics
import tempfile
import time

import tensorflow as tf
import tensorflow_datasets as tfds

import timing
from vit_jax.data import (
  decode,
  parallel_reading,
  pipeline,
  preprocess,
  registry,
)

# Copies of each photo, so that the start of an epoch weighs no more than in a
# dataset of realistic size.
COPIES = 32
NUM_FILES = 4  # Of TFRecords.
BARE = 'bare decoding'
FILES = 'train_batches, files'
RANDAUGMENT = 'train_batches, files, RandAugment(2, 10)'


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('photos', type=pathlib.Path)
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--batches', type=int, default=16)
  parser.add_argument('--repetitions', type=int, default=5)
  parser.add_argument(
    '--only',
    default='',
    help='parts of the names of candidates, separated by semicolons; other'
    ' candidates are left out',
  )
  return parser.parse_args()


def _prepare(photos: pathlib.Path, folder: pathlib.Path) -> list[str]:
  """Links the photos into an image folder and writes them as TFRecords.

  Returns:
    The paths of the links.
  """
  originals = [
    p for p in sorted(photos.iterdir()) if p.suffix.lower() != '.png'
  ]
  links = folder / 'photos' / 'train' / 'all'
  links.mkdir(parents=True)
  for copy, path in itertools.product(range(COPIES), originals):
    (links / f'{copy}_{path.stem}.jpg').symlink_to(path.resolve())
  paths = [str(path) for path in sorted(links.iterdir())]
  features = {
    'image': tfds.features.Image(shape=(None, None, 3)),
    'label': tfds.features.ClassLabel(num_classes=1),
  }
  tfds.dataset_builders.store_as_tfds_dataset(
    name='photos',
    version='1.0.0',
    features=tfds.features.FeaturesDict(features),
    split_datasets={
      'train': [
        (i, {'image': path, 'label': 0}) for i, path in enumerate(paths)
      ]
    },
    data_dir=folder / 'tfds',
    download_config=tfds.download.DownloadConfig(num_shards=NUM_FILES),
    disable_shuffling=True,
  )
  return paths


def _candidates(options, folder, paths) -> dict[str, Callable[[], Iterable]]:
  """Returns functions that start an iterator over images or batches."""
  size = (options.image_size, options.image_size)

  def train_transform(**augmentation):
    return preprocess.train_transform(
      image_size=size, crop='inception', **augmentation
    )

  crop = train_transform(flip=False)
  train = train_transform(flip=True)
  randaugment = train_transform(flip=True, randaugment=(2, 10))
  evaluate = preprocess.eval_transform(image_size=size, crop='resize')
  key = tf.constant([0, 0], tf.int64)
  files = registry.open_source(f'folder:{folder / "photos"}', 'train')
  records = registry.open_source(
    'tfds:photos', 'train', data_dir=str(folder / 'tfds')
  )

  def middle_quarter(size):
    return tf.concat([size // 4, size // 2], 0)

  def mapped(function):
    """Maps files in order, without batching and with the same key."""
    return lambda: parallel_reading.numpy_iterator(_parallel(paths, function))

  def batches(source, transform=train):
    return lambda: pipeline.train_batches(
      source, transform, batch_size=options.batch, seed=0
    )

  def unordered():
    rows = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths))
    rows = rows.repeat().map(
      lambda path: train(
        tf.io.read_file(path),
        tf.random.uniform((2,), maxval=2**31 - 1, dtype=tf.int64),
      ),
      num_parallel_calls=parallel_reading.PARALLEL_CALLS,
      deterministic=False,
    )
    return parallel_reading.numpy_iterator(
      rows.batch(options.batch).prefetch(2)
    )

  def evaluation():
    once = pipeline.eval_batches(files, evaluate, batch_size=options.batch)
    return itertools.chain.from_iterable(itertools.repeat(once))

  return {
    BARE: mapped(lambda raw: tf.io.decode_jpeg(raw, channels=3)),
    'reading only': mapped(lambda raw: raw),
    'decoding the middle quarter': mapped(
      lambda raw: decode.RGB.crop(raw, middle_quarter)
    ),
    'inception crop': mapped(lambda raw: crop(raw, key)),
    'inception crop, flip': mapped(lambda raw: train(raw, key)),
    FILES: batches(files),
    RANDAUGMENT: batches(files, randaugment),
    'train_batches, TFRecords': batches(records),
    'train_batches, files in any order': unordered,
    'resizing whole photos': mapped(evaluate),
    'eval_batches, files': evaluation,
    **_torchvision(options, folder / 'photos' / 'train'),
  }


def _parallel(paths, function) -> tf.data.Dataset:
  return parallel_reading.parallel_map(
    tf.data.Dataset.from_tensor_slices(paths).repeat(),
    lambda path: function(tf.io.read_file(path)),
  ).prefetch(16)


def _torchvision(options, folder) -> dict[str, Callable[[], Iterable]]:
  try:
    import torch
    from torchvision import datasets, transforms
  except (ImportError, RuntimeError):
    return {}
  images = datasets.ImageFolder(
    str(folder),
    transforms.Compose(
      [
        transforms.RandomResizedCrop(options.image_size, scale=(0.05, 1.0)),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
      ]
    ),
  )
  loader = torch.utils.data.DataLoader(
    images, options.batch, shuffle=True, num_workers=os.cpu_count()
  )
  return {
    'torchvision, files': lambda: (
      batch.numpy()
      for batch, _ in itertools.chain.from_iterable(itertools.repeat(loader))
    )
  }


def _rate(iterator: Iterator, options) -> tuple[float, float]:
  """Returns images per second on all cores, and ms of CPU time per image."""
  first = next(iterator)
  is_batch = isinstance(first, dict) or getattr(first, 'ndim', 0) == 4
  rows = options.batch if is_batch else 1
  # Use up what was prefetched before the clock starts.
  for _ in range(4 * options.batch // rows):
    next(iterator)
  count = options.batch * options.batches
  begin, cpu_begin = time.perf_counter(), time.process_time()
  for _ in range(count // rows):
    next(iterator)
  seconds, cpu_seconds = (
    time.perf_counter() - begin,
    time.process_time() - cpu_begin,
  )
  return count / seconds, 1e3 * cpu_seconds / count


def main() -> None:
  """Compares all candidates."""
  options = _options()
  print(timing.describe_machine())
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    paths = _prepare(options.photos, folder)
    candidates = _candidates(options, folder, paths)
    only = options.only.split(';')
    chosen = [name for name in candidates if any(x in name for x in only)]
    rates, cpu_ms = ({name: [] for name in chosen} for _ in range(2))
    for _ in range(options.repetitions):
      for name in rates:
        rate, cpu = _rate(iter(candidates[name]()), options)
        rates[name].append(rate)
        cpu_ms[name].append(cpu)
  cores = len(os.sched_getaffinity(0))
  rows = [
    [
      *timing.row(name, values, rates.get(BARE, next(iter(rates.values())))),
      f'{statistics.median(values) / cores:.1f}',
      f'{statistics.median(cpu_ms[name]):.3f}',
      f'{min(cpu_ms[name]):.3f}',
    ]
    for name, values in rates.items()
  ]
  head = ['', 'images/s', 'lowest', 'highest', 'ratio', 'images/s per core']
  head += ['CPU ms/image', 'lowest']
  timing.show(head, rows)
  if {FILES, RANDAUGMENT} <= rates.keys():
    ratios = [
      rate / reference
      for rate, reference in zip(rates[RANDAUGMENT], rates[FILES], strict=True)
    ]
    print(
      f'{RANDAUGMENT}: {statistics.median(ratios):.3f} of the rate without it'
      f' (median; {min(ratios):.3f} to {max(ratios):.3f})'
    )


if __name__ == '__main__':
  main()
