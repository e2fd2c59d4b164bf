"""Images in folders, one folder per class.

Either `PATH/{train,val,test}/CLASS/*` or `PATH/CLASS/*`, with images at any
depth below CLASS. In the second layout, a fifth of the images of every class
(rounded, but at least one if there are several) form the split `test`, the rest
`train`. Test images are chosen by a hash of `CLASS/FILE`, so that added images
move few of the others to another split. PATH may be any path supported by
TensorFlow and etils, such as gs://.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable
from concurrent import futures
import dataclasses
import functools
import itertools
import logging
import os
from typing import Any

from etils import epath
import numpy as np

from vit_jax.checkpoints import location, regular_file
from vit_jax.data import assertions, decode, listing, shortened, splits
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.source import RandomAccessSource, digest

_log = logging.getLogger(__name__)

# Names of folders, in lower case, by split.
SPLITS = {
  'train': ('train', 'training'),
  'val': ('val', 'valid', 'validation'),
  'test': ('test', 'testing'),
}
_THREADS = 32  # They mostly wait for the file system.
_Listing = dict[str, list[str]]  # Paths below the class folder, by class.
_NOT_AN_IMAGE = (
  f'unreadable, or not {", ".join(decode.MAGIC)} according to the first bytes'
)
_LAYOUT = 'expected PATH/{train,val,test}/CLASS/* or PATH/CLASS/*'


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FolderSource(RandomAccessSource):
  """Image files with one label each.

  Attributes:
    paths: path of every file.
    labels: class of every file.
    are_images: whether each file starts with the magic bytes of an image; None
      if all do. The other files are never read.
  """

  # Tensors, because arrays would be copied into every graph.
  paths: tf.Tensor
  labels: tf.Tensor
  are_images: tf.Tensor | None = None

  @property
  def _root(self) -> epath.Path:
    return location.expand(self.name.removeprefix('folder:'))

  def load(self, record):  # noqa: D102
    index = record['index']
    path = tf.gather(self.paths, index)
    if self.are_images is not None:
      is_image = tf.gather(self.are_images, index)
      if tf.executing_eagerly():  # For the message of an error.
        assertions.require(is_image, _NOT_AN_IMAGE)
      path = tf.where(is_image, path, '')  # Cannot be read.
    return tf.io.read_file(path), tf.gather(self.labels, index)

  def describe(self, index: int) -> str:  # noqa: D102
    return listing.as_text(self.paths[index].numpy())

  def stable_id(self, index: int) -> str:  # noqa: D102
    return self.describe(index).removeprefix(f'{self._root}/')

  def file_names(self) -> list[str]:  # noqa: D102
    return [listing.as_text(os.path.basename(p)) for p in self.paths.numpy()]

  def fingerprint(self) -> dict[str, Any]:
    """Returns the number of images and a hash of their files, by class.

    The hash covers every path below the class folder and the size in bytes.
    """
    paths = self.paths.numpy()
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      parts = pool.map(_sizes, np.array_split(paths, _THREADS))
      sizes = [size for part in parts for size in part]
    root = len(str(self._root))
    lines = collections.defaultdict(list)
    for path, size, label in zip(
      paths, sizes, self.labels.numpy(), strict=True
    ):
      folder = f'/{self.class_names[label]}/'
      _, _, below = listing.as_text(path)[root:].partition(folder)
      lines[label].append(f'{below}\t{size}\n'.encode())
    return {
      'classes': {
        name: [len(lines[k]), digest(b''.join(sorted(lines[k])))]
        for k, name in enumerate(self.class_names)
      }
    }

  def of_classes(self, names: Collection[str]) -> FolderSource:
    """Returns a source with only these classes; labels are renumbered.

    Raises:
      ValueError: if there is no image of these classes.
    """
    kept_classes = [k for k, n in enumerate(self.class_names) if n in names]
    kept = np.isin(self.labels, kept_classes)
    if not kept.any():
      raise ValueError(
        f'{self.name} {self.split} has no image of the requested classes'
        f' ({", ".join(sorted(names)[:3])}, ...); its classes are'
        f' {", ".join(self.class_names[:3])}, ...; check the folder names.'
      )
    labels = np.searchsorted(kept_classes, self.labels.numpy()[kept])
    return dataclasses.replace(
      self,
      num_examples=len(labels),
      class_names=tuple(self.class_names[k] for k in kept_classes),
      paths=tf.boolean_mask(self.paths, kept),
      labels=tf.constant(labels, tf.int32),
      are_images=None
      if self.are_images is None
      else tf.boolean_mask(self.are_images, kept),
    )


def open_folder(
  path: str,
  split: str,
  *,
  subset: int = 0,
  seed: int = 0,
  exclude: Exclusions | None = None,
  skip_corrupt: bool = False,
) -> FolderSource:
  """Opens a folder of class folders.

  The classes of train, sorted by name, are those of every split. If there are
  folders for train and val but none for test, `test` is val. Skipped files and
  folders, such as hidden ones, are logged; see `listing.find_images`. The first
  bytes of every image of the split are checked; with `skip_corrupt`, files that
  are not images are logged, keep their position, and cannot be loaded.

  Raises:
    ValueError: if the folder or its classes are missing, a class folder has no
      images or is missing in train, a file is not an image, the split is
      unknown or empty, or `exclude` does not match it.
  """
  root = location.expand(path)
  if not root.is_dir():
    raise ValueError(f'folder {str(root)!r} does not exist; {_LAYOUT}.')
  skipped = listing.Skipped()
  split_folders = _find_split_folders(root, skipped)
  if split_folders:
    if 'train' not in split_folders:
      raise ValueError(
        f'{root} has the splits {", ".join(split_folders)} but not train, which'
        f' defines the classes; {_LAYOUT}.'
      )
    listings = {
      name: _list_classes(root / split_folder, skipped)
      for name, split_folder in split_folders.items()
    }
  else:
    listings = _split_by_hash(_list_classes(root, skipped))
  if skipped:
    _log_once(f'{root}: skipped {skipped}')
  class_ids = {label: k for k, label in enumerate(listings['train'])}
  for split_name, classes in listings.items():
    unknown = [listing.as_text(k) for k in classes if k not in class_ids]
    if unknown:
      raise ValueError(
        f'{root / split_folders[split_name]} has classes that are missing in'
        f' train: {", ".join(unknown)}; add training images or remove these'
        ' folders.'
      )
  # Files as CLASS/FILE, or SPLIT/CLASS/FILE if there are split folders.
  files_by_split = {
    name: _in_fixed_order(
      classes, f'{split_folders[name]}/' if split_folders else ''
    )
    for name, classes in listings.items()
  }
  if 'val' in split_folders and 'test' not in split_folders:
    files_by_split['test'] = files_by_split['val']
    if 'test' in map(splits.plain_name, split.split('+')):
      _log_once(
        f'{root} has no folder for the split test; using'
        f' {split_folders["val"]} instead'
      )
  name = f'folder:{path}'
  files = splits.select(split, files_by_split, name)
  if exclude:
    excluded = np.flatnonzero(
      [listing.as_text(f) in exclude.ids for f in files]
    )
    files = files[exclude.remaining(excluded, len(files))]
  if subset:
    files = files[splits.random_subset(subset, len(files), seed, name)]
  paths = [os.fsencode(root / file) for file in files]
  are_images = _are_images(paths)
  _report_other_files(
    [path for path, ok in zip(paths, are_images, strict=True) if not ok],
    f'{name} {split}',
    skip_corrupt,
  )
  depth = 1 if split_folders else 0  # Position of the class in a file's path.
  return FolderSource(
    name=name,
    split=split,
    num_examples=len(files),
    class_names=tuple(map(listing.as_text, class_ids)),
    paths=tf.constant(paths),
    labels=tf.constant([class_ids[f.split('/')[depth]] for f in files]),
    are_images=None if all(are_images) else tf.constant(are_images),
  )


# A folder is opened for every split, but its messages are logged once.
@functools.cache
def _log_once(message: str, level: int = logging.INFO) -> None:
  _log.log(level, '%s', message)


def _find_split_folders(
  root: epath.Path, skipped: listing.Skipped
) -> dict[str, str]:
  """Returns the folder of each split; empty if the folders are classes.

  Case is ignored. The folders are classes unless some are named after splits.
  Even then, they are classes if those have no subfolders but others exist.

  Raises:
    ValueError: if a split has several folders.
  """
  skipped_here = listing.Skipped()
  folders = listing.subfolders(root, skipped_here)
  found = {
    split: [name for name in folders if name.lower() in names]
    for split, names in SPLITS.items()
  }
  found = {split: names for split, names in found.items() if names}
  others = sorted(set(folders).difference(*found.values()))
  unused = listing.Skipped()
  if not found or (
    others
    and not any(
      listing.subfolders(root / name, unused)
      for names in found.values()
      for name in names
    )
  ):
    return {}
  for split, names in found.items():
    if len(names) > 1:
      raise ValueError(
        f'{root} has several folders for the split {split}:'
        f' {", ".join(names)}; keep one of them.'
      )
  skipped.update(skipped_here)
  for name in others:
    skipped.add_folder(root / name, 'next to the split folders')
  return {split: name for split, (name,) in found.items()}


def _list_classes(folder: epath.Path, skipped: listing.Skipped) -> _Listing:
  """Returns the image files of every class folder, all sorted by name."""
  labels = listing.subfolders(folder, skipped)
  if not labels:
    raise ValueError(
      f'{folder} contains no class folders; {_LAYOUT}.'
      + (f' It contains {skipped}.' if skipped else '')
    )

  def list_images(label):
    skipped_here = listing.Skipped()
    return listing.find_images(folder / label, skipped_here), skipped_here

  with futures.ThreadPoolExecutor(_THREADS) as pool:
    listings = dict(zip(labels, pool.map(list_images, labels), strict=True))
  for _, skipped_here in listings.values():
    skipped.update(skipped_here)
  empty = [
    listing.as_text(k) for k, (images, _) in listings.items() if not images
  ]
  if empty:
    raise ValueError(
      f'class folders without images in {folder}: {", ".join(empty)}; add'
      f' files that end in {", ".join(listing.EXTENSIONS)}, or remove these'
      ' folders.'
    )
  return {label: images for label, (images, _) in listings.items()}


def _split_by_hash(classes: _Listing) -> dict[str, _Listing]:
  """Divides the images of every class between train and test."""
  train, test = {}, {}
  for label, images in classes.items():
    keys = {n: splits.order_key('split', f'{label}/{n}') for n in images}
    images = sorted(images, key=keys.get)
    num_test = max(round(len(images) / 5), 1) if len(images) > 1 else 0
    train[label] = images[num_test:]
    if num_test:
      test[label] = images[:num_test]
  return {'train': train, 'test': test}


def _in_fixed_order(classes: _Listing, prefix: str) -> np.ndarray:
  """Returns all files, shuffled so that slices contain all classes."""
  files = [f'{label}/{name}' for label in classes for name in classes[label]]
  files.sort(key=lambda file: splits.order_key('order', file))
  return np.array([prefix + file for file in files], object)


def _sizes(paths: Iterable[bytes]) -> list[int]:
  """Returns file sizes in bytes, -1 for files that cannot be read."""

  def size(path):
    try:
      if b'://' in path:
        return epath.Path(os.fsdecode(path)).stat().length
      return os.path.getsize(path)  # 40 times as fast as with epath.
    except OSError:
      return -1

  return list(map(size, paths))


def _are_images(paths: list[bytes]) -> list[bool]:
  """Returns whether each file starts with the magic bytes of an image.

  FIFOs, sockets and devices are not opened.
  """
  magic = tuple(itertools.chain(*decode.MAGIC.values()))

  def is_image(path):
    try:
      if regular_file.is_special(path):
        return False
      with epath.Path(os.fsdecode(path)).open('rb') as file:
        return file.read(max(map(len, magic))).startswith(magic)
    except OSError:
      return False

  with futures.ThreadPoolExecutor(_THREADS) as pool:
    return list(pool.map(is_image, paths))


def _report_other_files(
  paths: list[bytes], where: str, skip_corrupt: bool
) -> None:
  """Raises an error that lists up to five files, or logs it as a warning."""
  if not paths:
    return
  listed = shortened.join(list(map(listing.as_text, sorted(paths))), 5)
  message = f'{where}: {_NOT_AN_IMAGE}: {listed}'
  if not skip_corrupt:
    raise ValueError(
      f'{message}; remove or convert these files, or set'
      ' data.skip_corrupt=true to skip them.'
    )
  _log_once(f'skipping {len(paths)} files of {message}', logging.WARNING)
