"""Images in folders, one folder per class.

Either `PATH/{train,val,test}/CLASS/*` or `PATH/CLASS/*`, with images at any
depth below CLASS. In the second layout, a fifth of the images of every class
(rounded, but at least one if there are several) form the split `test`, the rest
`train`. Test images are chosen by a hash of `CLASS/FILE`, so that added images
move few of the others to another split. PATH may be any path supported by
TensorFlow and etils, such as gs://.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent import futures
import dataclasses
import os

from etils import epath
from jaxtyping import Int64
import numpy as np

from vit_jax.checkpoints import location
from vit_jax.data import file_source, folder_index, listing
from vit_jax.data.exclusions import Exclusions
from vit_jax.data.file_source import Files, FileSource
from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.ragged import Ragged

# Names of folders, in lower case, by split.
SPLITS = {
  'train': ('train', 'training'),
  'val': ('val', 'valid', 'validation'),
  'test': ('test', 'testing'),
}
_THREADS = 32  # They mostly wait for the file system.
_LAYOUT = 'expected PATH/{train,val,test}/CLASS/* or PATH/CLASS/*'


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FolderSource(FileSource):
  """Images in folders; names are CLASS/FILE or SPLIT/CLASS/FILE."""

  def _name_in_class(self, name: str, class_name: str) -> str:
    # In fingerprints of `folder:.`, names have always lacked the first letter.
    below_root = f'/{name}' if self.prefix else name[1:]
    return below_root.partition(f'/{class_name}/')[2]

  def of_classes(self, names: Collection[str]) -> FolderSource:
    """Returns a source with only these classes; labels are renumbered.

    Raises:
      ValueError: if there is no image of these classes.
    """
    kept_classes = [k for k, n in enumerate(self.class_names) if n in names]
    rows = np.flatnonzero(np.isin(self.labels, kept_classes))
    if not len(rows):
      raise ValueError(
        f'{self.name} {self.split} has no image of the requested classes'
        f' ({", ".join(sorted(names)[:3])}, ...); its classes are'
        f' {", ".join(self.class_names[:3])}, ...; check the folder names.'
      )
    labels = np.searchsorted(kept_classes, self.labels.numpy()[rows])
    return self.take(
      rows,
      class_names=tuple(self.class_names[k] for k in kept_classes),
      labels=tf.constant(labels, tf.int32),
    )


def open_folder(
  path: str,
  split: str,
  *,
  files: Files | None = None,
  subset: int = 0,
  seed: int = 0,
  exclude: Exclusions | None = None,
) -> FolderSource:
  """Opens a split of a folder of class folders.

  The classes of train, sorted by name, are those of every split. If there are
  folders for train and val but none for test, `test` is val. No image is
  opened; a file that is not an image is an error when it is read.

  Args:
    path: the folder.
    split, subset, seed, exclude: see `registry.open_source`.
    files: its files; None: `list_files(path)`.

  Raises:
    ValueError: if the folder cannot be listed, the split is unknown or empty,
      or `exclude` does not match it.
  """
  files = files or list_files(path)
  fields = files.fields(
    f'folder:{path}', split, subset=subset, seed=seed, exclude=exclude
  )
  return FolderSource(**fields)


def list_files(path: str, index: str = '') -> Files:
  """Lists a folder of class folders, without opening an image.

  Skipped files and folders, such as hidden ones, are logged; see
  `listing.find_images`.

  Args:
    path: the folder.
    index: file that keeps the list; it is written if it does not exist, and
      read instead of the folder if it does. Empty: none.

  Raises:
    ValueError: if the folder or its classes are missing, a class folder has no
      images or is missing in train, or the index is invalid or that of another
      folder.
  """
  root = location.expand(path)
  found = folder_index.read(index, root) if index else None
  if found:
    file_source.log_once(
      f'{root}: {found.num_files} files, as listed in {index}; remove this'
      ' file to list the folder again'
    )
    return _files(root, found, index)
  found = _list(root)
  files = _files(root, found, index)
  if index:
    sizes = file_source.file_sizes(files.prefix, files.names)
    folder_index.write(index, root, dataclasses.replace(found, sizes=sizes))
    files = dataclasses.replace(files, sizes=sizes)
    file_source.log_once(
      f'{root}: {found.num_files} files, now listed in {index}; remove this'
      ' file to list the folder again'
    )
  return files


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


def _list(root: epath.Path) -> folder_index.Listing:
  """Lists a folder; logs what is skipped."""
  if not root.is_dir():
    raise ValueError(f'folder {str(root)!r} does not exist; {_LAYOUT}.')
  skipped = listing.Skipped()
  split_folders = _find_split_folders(root, skipped)
  if split_folders and 'train' not in split_folders:
    raise ValueError(
      f'{root} has the splits {", ".join(split_folders)} but not train, which'
      f' defines the classes; {_LAYOUT}.'
    )
  classes = {
    split: _list_classes(root, folder, skipped)
    for split, folder in (split_folders or {'': ''}).items()
  }
  if skipped:
    file_source.log_once(f'{root}: skipped {skipped}')
  parts = [part for of_split in classes.values() for part in of_split.values()]
  begins = np.cumsum([0, *(part.count for part in parts[:-1])])
  return folder_index.Listing(
    split_folders,
    {
      split: {label: part.count for label, part in of_split.items()}
      for split, of_split in classes.items()
    },
    b''.join([part.names for part in parts]),
    np.concatenate(
      [b + part.special for b, part in zip(begins, parts, strict=True)]
    ),
  )


@dataclasses.dataclass(frozen=True)
class _ClassFiles:
  """The image files of a class, as in `folder_index.Listing`."""

  count: int
  names: bytes
  special: Int64[np.ndarray, ' special']


def _list_classes(
  root: epath.Path, split_folder: str, skipped: listing.Skipped
) -> dict[str, _ClassFiles]:
  """Returns the image files of every class folder, all sorted by name."""
  folder = root / split_folder
  labels = listing.subfolders(folder, skipped)
  if not labels:
    raise ValueError(
      f'{folder} contains no class folders; {_LAYOUT}.'
      + (f' It contains {skipped}.' if skipped else '')
    )

  def list_images(label):
    skipped_here = listing.Skipped()
    found = listing.find_images(folder / label, skipped_here)
    prefix = os.path.join(split_folder, label, '')
    # Joined at once; an object per name would take twice the memory.
    names = os.fsencode(''.join(f'{prefix}{n}\0' for n in found.names))
    special = [i for i, n in enumerate(found.names) if n in found.special]
    part = _ClassFiles(len(found.names), names, np.array(special, np.int64))
    return part, skipped_here

  with futures.ThreadPoolExecutor(_THREADS) as pool:
    found = dict(zip(labels, pool.map(list_images, labels), strict=True))
  for _, skipped_here in found.values():
    skipped.update(skipped_here)
  parts = {label: part for label, (part, _) in found.items()}
  empty = [listing.as_text(k) for k, part in parts.items() if not part.count]
  if empty:
    raise ValueError(
      f'class folders without images in {folder}: {", ".join(empty)}; add'
      f' files that end in {", ".join(listing.EXTENSIONS)}, or remove these'
      ' folders.'
    )
  return parts


def _files(root: epath.Path, found: folder_index.Listing, index: str) -> Files:
  """Assigns classes and splits to the files of a folder."""
  train_classes = found.counts['train' if found.split_folders else '']
  class_ids = {label: k for k, label in enumerate(train_classes)}
  for split, counts in found.counts.items():
    unknown = [listing.as_text(k) for k in counts if k not in class_ids]
    if unknown:
      raise ValueError(
        f'{root / found.split_folders[split]} has classes that are missing in'
        f' train: {", ".join(unknown)}; add training images or remove these'
        ' folders.'
      )
  names = Ragged.terminated(found.names)
  labels = np.concatenate(
    [
      np.full(count, class_ids[label], np.int32)
      for counts in found.counts.values()
      for label, count in counts.items()
    ]
  )
  if not found.split_folders:
    rows = file_source.divide(names, labels)
  else:
    rows, end = {}, 0
    for split, folder in found.split_folders.items():
      begin, end = end, end + sum(found.counts[split].values())
      # The order depends on CLASS/FILE only.
      below_split = names.without_first(len(os.fsencode(folder)) + 1)
      rows[split] = file_source.in_fixed_order(
        below_split, np.arange(begin, end)
      )
  folders = found.split_folders
  return Files(
    prefix=os.fspath(root / '_')[:-1],
    names=names,
    class_names=tuple(map(listing.as_text, class_ids)),
    labels=labels,
    splits=rows,
    special=found.special,
    is_divided=not found.split_folders,
    sizes=found.sizes,
    listed_in=index,
    stand_in='' if 'test' in folders else folders.get('val', ''),
  )
