"""One tar archive per class, as in the releases of ImageNet.

PATH is a folder of archives such as n01440764.tar, or the archive of these
archives (fall11_whole.tar). Any of them may be compressed with gzip. The label
of an image is the name of its archive. If a list of WordNet IDs and words lies
beside the archives (see `wordnet.find_words`), classes get names such as
`n01440764 tench`; the words do not replace the IDs because some classes share
them. Otherwise, the label is the name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
import dataclasses
import functools
import os

from etils import epath

from vit_jax.checkpoints import location
from vit_jax.data import listing
from vit_jax.data.preparation import tar_archive, wordnet
from vit_jax.data.preparation.original import Item, Original, Unit

_LAYOUT = (
  'expected a folder of one tar per class, such as n01440764.tar, or the tar of'
  ' these tars'
)


@dataclasses.dataclass(frozen=True)
class ClassTar(Unit):
  """The archive of a class.

  Attributes:
    path: file that is the archive, or contains it uncompressed.
    label: label of its images.
    offset: position in the file.
    size: number of bytes.
  """

  path: str
  label: str
  offset: int
  size: int

  def items(self) -> Iterator[Item]:  # noqa: D102
    with tar_archive.open_file(self.path, self.offset, self.size) as archive:
      yield from _images(archive, self.path, self.label)


@dataclasses.dataclass(frozen=True)
class CompressedTar(Unit):
  """A compressed archive of class archives, which one process has to read.

  Attributes:
    path: its file.
    size: number of bytes.
  """

  path: str
  size: int

  def items(self) -> Iterator[Item]:  # noqa: D102
    with tar_archive.open_file(self.path) as archive:
      for member in _class_tars(archive):
        yield from _images(member.open(), self.path, label_of(member.name))


@dataclasses.dataclass(frozen=True)
class ClassTars(Original):
  """Archives of classes.

  Attributes:
    path: folder of archives, or archive of archives.
  """

  path: epath.Path

  @functools.cached_property
  def _units(self) -> list[Unit]:
    if self.path.is_dir():
      units = [
        ClassTar(os.fspath(file), label_of(file.name), 0, file.stat().length)
        for file in sorted(self.path.iterdir())
        if tar_archive.is_archive(file.name)
      ]
      if not units:
        raise ValueError(f'{self.path} contains no tar archives; {_LAYOUT}.')
      return units
    path, size = os.fspath(self.path), self.path.stat().length
    with self.path.open('rb') as file:
      if file.read(2) == tar_archive.GZIP_MAGIC:
        return [CompressedTar(path, size)]
    with tar_archive.open_file(self.path) as archive:
      return [
        ClassTar(path, label_of(member.name), member.offset, member.size)
        for member in _class_tars(archive)
      ]

  def units(self) -> Iterator[Unit]:  # noqa: D102
    yield from self._units

  def class_names(  # noqa: D102
    self, labels: Collection[str]
  ) -> dict[str, str]:
    folder = self.path if self.path.is_dir() else self.path.parent
    words = wordnet.find_words(folder)
    return {
      label: f'{name} {words[label]}' if label in words else name
      for label, name in super().class_names(labels).items()
    }


def open_class_tars(path: str) -> ClassTars:
  """Opens a folder of archives, or an archive of archives.

  Raises:
    ValueError: if there is neither.
  """
  expanded = location.expand(path)
  if not expanded.exists():
    raise ValueError(f'{path!r} does not exist; {_LAYOUT}.')
  return ClassTars(expanded)


def label_of(name: str) -> str:
  """Returns the name of an archive, without folders and extension."""
  name = listing.as_text(os.path.basename(name))
  extension = next(
    e for e in tar_archive.EXTENSIONS if name.lower().endswith(e)
  )
  return name[: -len(extension)]


def _class_tars(archive: tar_archive.Stream) -> Iterator[tar_archive.Member]:
  """Yields the members that are archives.

  Raises:
    ValueError: if there are none.
  """
  found = False
  for member in tar_archive.members(archive):
    if tar_archive.is_archive(os.path.basename(member.name)):
      if member.error:
        raise ValueError(
          f'{archive.description}: {member.name} is {member.error}; {_LAYOUT}.'
        )
      found = True
      yield member
  if not found:
    raise ValueError(
      f'{archive.description} contains no tar archives; {_LAYOUT}. If its'
      ' images are in class folders, unpack it and use folder:PATH.'
    )


def _images(
  archive: tar_archive.Stream, path: str, label: str
) -> Iterator[Item]:
  """Yields the images of the archive of a class.

  Raises:
    ValueError: if it has none.
  """
  found, other = False, 'nothing'
  for member in tar_archive.members(archive):
    if not listing.is_image(os.path.basename(member.name)):
      other = member.name
      continue
    found = True
    yield Item(
      name=f'{label}/{member.name.removeprefix("./")}',
      labels=(label,),
      data=b'' if member.error else member.read(),
      file='' if member.offset is None else path,
      offset=member.offset or 0,
      error=member.error,
    )
  if not found:
    raise ValueError(
      f'{archive.description} contains {other}, but no file that ends in'
      f' {", ".join(listing.EXTENSIONS)}; {_LAYOUT}.'
    )
