"""Images in folders, one folder a class.

Either `PATH/{train,val,test}/CLASS/*`, or `PATH/CLASS/*`, of which every class
gives a fifth of its images (rounded, at least one of two) to a split `test` and
the rest to `train`; which ones, depends on a hash of `CLASS/FILE` alone, so
that adding images moves few of the others. Any folder that TensorFlow and etils
can read will do, gs:// included.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent import futures
import dataclasses
import logging
import os

from etils import epath
import numpy as np

from vit_jax.data import decode, splits
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.source import IndexedSource

_log = logging.getLogger(__name__)

ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.gif')
SPLITS = ('train', 'val', 'test')
_THREADS = 32  # They mostly wait.
_LAYOUT = 'expected PATH/{train,val,test}/CLASS/* or PATH/CLASS/*'


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FolderSource(IndexedSource):
  """Image files with one label each."""

  # Tensors are handed to a graph; arrays would be copied into it.
  paths: tf.Tensor
  labels: tf.Tensor

  def load(self, record):  # noqa: D102
    index = record['index']
    raw = tf.io.read_file(tf.gather(self.paths, index))
    return raw, tf.gather(self.labels, index)

  def describe(self, example_id: int) -> str:  # noqa: D102
    return self.paths[example_id].numpy().decode()

  def stable_id(self, index: int) -> str:  # noqa: D102
    root = epath.Path(self.name.removeprefix('folder:')).expanduser()
    return self.describe(index).removeprefix(f'{root}/')

  def file_names(self) -> list[str]:  # noqa: D102
    return [os.path.basename(path.decode()) for path in self.paths.numpy()]

  def of_classes(self, names: Collection[str]) -> FolderSource:
    """The same without the images of other classes; labels are renumbered.

    Raises:
      ValueError: if it has no image of these classes.
    """
    kept_names = tuple(name for name in self.class_names if name in names)
    kept = np.isin(
      self.labels, [self.class_names.index(name) for name in kept_names]
    )
    if not kept.any():
      raise ValueError(
        f'{self.name} {self.split} has no image of the classes asked for, such'
        f' as {", ".join(sorted(names)[:3])}; its own are such as'
        f' {", ".join(self.class_names[:3])}.'
      )
    new_label = {name: label for label, name in enumerate(kept_names)}
    labels = [
      new_label[self.class_names[label]] for label in self.labels.numpy()[kept]
    ]
    return dataclasses.replace(
      self,
      num_examples=len(labels),
      class_names=kept_names,
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

  The classes, sorted by name, come from train and hold for every split. Hidden
  files and folders are left out, as are files with other endings than ENDINGS
  (in any case), these with a line in the log. The first bytes of every image
  of the split are looked at.

  Raises:
    ValueError: if the folder or its classes are missing, a class folder holds
      no images or is unknown to train, a file is no image, the split is unknown
      or empty, or what to leave out does not fit it.
  """
  root = epath.Path(path).expanduser()
  if not root.is_dir():
    raise ValueError(f'there is no folder {str(root)!r}; {_LAYOUT}.')
  name = f'folder:{path}'
  found = [part for part in SPLITS if (root / part).is_dir()]
  if found and 'train' not in found:
    raise ValueError(
      f'{root} has {" and ".join(found)}, but no train, which names the'
      f' classes; {_LAYOUT}.'
    )
  if found:
    listings = {part: _list_classes(root / part) for part in found}
  else:
    listings = _split_by_hash(_list_classes(root))
  class_ids = {label: k for k, label in enumerate(listings['train'])}
  for part, listing in listings.items():
    unknown = [label for label in listing if label not in class_ids]
    if unknown:
      raise ValueError(
        f'{root / part} has classes that train has not: {", ".join(unknown)};'
        ' add training images of them or remove their folders.'
      )
  # Files as CLASS/FILE, below the folder of their split where there is one.
  parts = {
    part: _in_fixed_order(listing, f'{part}/' if found else '')
    for part, listing in listings.items()
  }
  files = splits.select(split, parts, name)
  if exclude:
    left_out = np.array([file in exclude.ids for file in files])
    files = files[exclude.kept(np.flatnonzero(left_out), len(files))]
  if subset:
    files = files[splits.random_subset(subset, len(files), seed, name)]
  paths = [os.fspath(root / file) for file in files]
  _refuse_what_is_no_image(paths)
  return FolderSource(
    name=name,
    split=split,
    num_examples=len(files),
    class_names=tuple(class_ids),
    paths=tf.constant(paths),
    labels=tf.constant([class_ids[f.split('/')[-2]] for f in files]),
  )


def _list_classes(folder: epath.Path) -> dict[str, list[str]]:
  """The image files of every class folder, all sorted by name."""
  labels = sorted(
    entry.name
    for entry in folder.iterdir()
    if not entry.name.startswith('.') and entry.is_dir()
  )
  if not labels:
    raise ValueError(f'{folder} holds no class folders; {_LAYOUT}.')

  def list_images(label):
    names = sorted(entry.name for entry in (folder / label).iterdir())
    names = [name for name in names if not name.startswith('.')]
    images = [name for name in names if name.lower().endswith(ENDINGS)]
    return images, len(names) - len(images)

  with futures.ThreadPoolExecutor(_THREADS) as pool:
    found = dict(zip(labels, pool.map(list_images, labels), strict=True))
  empty = [label for label, (images, _) in found.items() if not images]
  if empty:
    raise ValueError(
      f'class folders without images in {folder}: {", ".join(empty)}; files'
      f' have to end in {", ".join(ENDINGS)}.'
    )
  others = sum(num_others for _, num_others in found.values())
  if others:
    _log.info(
      '%s: left out %d files that do not end in %s.',
      folder, others, ', '.join(ENDINGS),
    )  # fmt: skip
  return {label: images for label, (images, _) in found.items()}


def _split_by_hash(
  listing: dict[str, list[str]],
) -> dict[str, dict[str, list[str]]]:
  """Deals the images of every class to train and test."""
  train, test = {}, {}
  for label, images in listing.items():
    images = sorted(
      images, key=lambda name: splits.order_key('split', f'{label}/{name}')
    )
    num_test = max(round(len(images) / 5), 1) if len(images) > 1 else 0
    train[label] = images[num_test:]
    if num_test:
      test[label] = images[:num_test]
  return {'train': train, 'test': test}


def _in_fixed_order(listing: dict[str, list[str]], prefix: str) -> np.ndarray:
  """All files, mixed so that a slice has its share of every class."""
  files = [f'{label}/{name}' for label in listing for name in listing[label]]
  files.sort(key=lambda file: splits.order_key('order', file))
  return np.array([prefix + file for file in files], object)


def _refuse_what_is_no_image(paths: list[str]) -> None:
  """Looks at the first bytes of every file.

  Raises:
    ValueError: if some are not those of an image; it names up to five.
  """
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
      f'cannot be read, or are not {", ".join(decode.MAGIC)} by their first'
      f' bytes: {", ".join(bad[:5])}{more}; remove them or convert them.'
    )
