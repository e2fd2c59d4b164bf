"""Images in folders, one folder per class.

Either `PATH/{train,val,test}/CLASS/*`, or `PATH/CLASS/*`. In the latter case, a
fifth of the images of every class (rounded, but at least one of two or more)
form the split `test`, the rest `train`. Test images are chosen by a hash of
`CLASS/FILE`, so that adding images moves few of the others. PATH may be any
path supported by TensorFlow and etils, such as gs://.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable
from concurrent import futures
import dataclasses
import logging
import os
from typing import Any

from etils import epath
import numpy as np

from vit_jax.data import decode, splits
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.source import RandomAccessSource, digest

_log = logging.getLogger(__name__)

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.gif')
SPLITS = ('train', 'val', 'test')
_THREADS = 32  # Mostly waiting for the file system.
_Listing = dict[str, list[str]]  # The file names of every class.
_LAYOUT = 'expected PATH/{train,val,test}/CLASS/* or PATH/CLASS/*'


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FolderSource(RandomAccessSource):
  """Image files with one label each."""

  # Tensors, because arrays would be copied into every graph.
  paths: tf.Tensor
  labels: tf.Tensor

  @property
  def _root(self) -> epath.Path:
    return epath.Path(self.name.removeprefix('folder:')).expanduser()

  def load(self, record):  # noqa: D102
    index = record['index']
    raw = tf.io.read_file(tf.gather(self.paths, index))
    return raw, tf.gather(self.labels, index)

  def describe(self, index: int) -> str:  # noqa: D102
    return self.paths[index].numpy().decode()

  def stable_id(self, index: int) -> str:  # noqa: D102
    return self.describe(index).removeprefix(f'{self._root}/')

  def file_names(self) -> list[str]:  # noqa: D102
    return [os.path.basename(path.decode()) for path in self.paths.numpy()]

  def fingerprint(self) -> dict[str, Any]:
    """Returns the number of images and a hash of their files, by class.

    A file counts with its path below the class folder and its size in bytes.
    """
    paths = self.paths.numpy()
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      parts = pool.map(_sizes, np.array_split(paths, _THREADS))
      sizes = [size for part in parts for size in part]
    root = len(os.fsencode(self._root))
    lines = collections.defaultdict(list)
    for path, size, label in zip(
      paths, sizes, self.labels.numpy(), strict=True
    ):
      folder = os.fsencode(f'/{self.class_names[label]}/')
      _, _, below = path[root:].partition(folder)
      lines[label].append(b'%s\t%d\n' % (below, size))
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
    )


def open_folder(
  path: str,
  split: str,
  *,
  subset: int = 0,
  seed: int = 0,
  exclude: Exclusions | None = None,
) -> FolderSource:
  """Opens a folder of class folders.

  The classes of train, sorted by name, are those of every split. Hidden files
  and folders are ignored. So are files whose extensions, in lower case, are not
  in EXTENSIONS; their number is logged. The first bytes of every image of the
  split are checked.

  Raises:
    ValueError: if the folder or its classes are missing, a class folder has no
      images or is missing in train, a file is not an image, the split is
      unknown or empty, or `exclude` does not match it.
  """
  root = epath.Path(path).expanduser()
  if not root.is_dir():
    raise ValueError(f'folder {str(root)!r} does not exist; {_LAYOUT}.')
  split_folders = [name for name in SPLITS if (root / name).is_dir()]
  if split_folders:
    if 'train' not in split_folders:
      raise ValueError(
        f'{root} has {" and ".join(split_folders)} but no train, which defines'
        f' the classes; {_LAYOUT}.'
      )
    listings = {name: _list_classes(root / name) for name in split_folders}
  else:
    listings = _split_by_hash(_list_classes(root))
  class_ids = {label: k for k, label in enumerate(listings['train'])}
  for split_name, listing in listings.items():
    unknown = [label for label in listing if label not in class_ids]
    if unknown:
      raise ValueError(
        f'{root / split_name} has classes that are missing in train:'
        f' {", ".join(unknown)}; add training images or remove these folders.'
      )
  # Files as CLASS/FILE, or SPLIT/CLASS/FILE if there are split folders.
  files_by_split = {
    name: _in_fixed_order(listing, f'{name}/' if split_folders else '')
    for name, listing in listings.items()
  }
  name = f'folder:{path}'
  files = splits.select(split, files_by_split, name)
  if exclude:
    excluded = np.flatnonzero([file in exclude.ids for file in files])
    files = files[exclude.remaining(excluded, len(files))]
  if subset:
    files = files[splits.random_subset(subset, len(files), seed, name)]
  paths = [os.fspath(root / file) for file in files]
  _check_image_files(paths)
  return FolderSource(
    name=name,
    split=split,
    num_examples=len(files),
    class_names=tuple(class_ids),
    paths=tf.constant(paths),
    labels=tf.constant([class_ids[f.split('/')[-2]] for f in files]),
  )


def _list_classes(folder: epath.Path) -> _Listing:
  """Returns the image files of every class folder, all sorted by name."""
  labels = sorted(
    entry.name
    for entry in folder.iterdir()
    if not entry.name.startswith('.') and entry.is_dir()
  )
  if not labels:
    raise ValueError(f'{folder} contains no class folders; {_LAYOUT}.')

  def list_images(label):
    names = sorted(entry.name for entry in (folder / label).iterdir())
    names = [name for name in names if not name.startswith('.')]
    images = [name for name in names if name.lower().endswith(EXTENSIONS)]
    return images, len(names) - len(images)

  with futures.ThreadPoolExecutor(_THREADS) as pool:
    listings = dict(zip(labels, pool.map(list_images, labels), strict=True))
  empty = [label for label, (images, _) in listings.items() if not images]
  if empty:
    raise ValueError(
      f'class folders without images in {folder}: {", ".join(empty)}; add'
      f' files that end in {", ".join(EXTENSIONS)}, or remove these folders.'
    )
  num_ignored = sum(num_others for _, num_others in listings.values())
  if num_ignored:
    _log.info(
      '%s: ignored %d files that do not end in %s',
      folder, num_ignored, ', '.join(EXTENSIONS),
    )  # fmt: skip
  return {label: images for label, (images, _) in listings.items()}


def _split_by_hash(listing: _Listing) -> dict[str, _Listing]:
  """Divides the images of every class between train and test."""
  train, test = {}, {}
  for label, images in listing.items():
    keys = {n: splits.order_key('split', f'{label}/{n}') for n in images}
    images = sorted(images, key=keys.get)
    num_test = max(round(len(images) / 5), 1) if len(images) > 1 else 0
    train[label] = images[num_test:]
    if num_test:
      test[label] = images[:num_test]
  return {'train': train, 'test': test}


def _in_fixed_order(listing: _Listing, prefix: str) -> np.ndarray:
  """Returns all files, mixed so that slices contain all classes."""
  files = [f'{label}/{name}' for label in listing for name in listing[label]]
  files.sort(key=lambda file: splits.order_key('order', file))
  return np.array([prefix + file for file in files], object)


def _sizes(paths: Iterable[bytes]) -> list[int]:
  """Returns the sizes of files in bytes, -1 for one that cannot be read."""

  def size(path):
    try:
      if b'://' in path:
        return epath.Path(os.fsdecode(path)).stat().length
      return os.path.getsize(path)  # Forty times as fast.
    except OSError:
      return -1

  return list(map(size, paths))


def _check_image_files(paths: list[str]) -> None:
  """Raises an error that lists up to five files that are not images."""
  magic = tuple(decode.MAGIC.values())

  def is_image(path):
    try:
      with epath.Path(path).open('rb') as file:
        return file.read(max(map(len, magic))).startswith(magic)
    except OSError:
      return False

  with futures.ThreadPoolExecutor(_THREADS) as pool:
    images = pool.map(is_image, paths)
  bad = sorted(path for path, ok in zip(paths, images, strict=True) if not ok)
  if bad:
    more = f' and {len(bad) - 5} more' if len(bad) > 5 else ''
    raise ValueError(
      f'unreadable, or not {", ".join(decode.MAGIC)} according to their first'
      f' bytes: {", ".join(bad[:5])}{more}; remove or convert these files.'
    )
