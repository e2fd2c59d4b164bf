"""Shards of WebDataset: tar archives in which KEY.jpg lies beside its label.

The label is in KEY.cls or KEY.txt (text, such as a number or a name), or in
KEY.json: a value, or an object with `label`, `labels` or `cls`. A list makes
the data multi-label. KEY.cls comes before KEY.json, and KEY.json before
KEY.txt, which is often a caption. PATH is as in `shard_files.find`, which also
finds the splits.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import json
import os

from vit_jax.data import listing
from vit_jax.data.preparation import shard_files, tar_archive
from vit_jax.data.preparation.original import Item, Original, Unit

LABEL_KEYS = ('label', 'labels', 'cls')  # Of an object in KEY.json.
_LABELS = ('cls', 'json', 'txt')  # Extensions, by priority.


@dataclasses.dataclass(frozen=True)
class Shard(Unit):
  """An archive of examples.

  Attributes:
    path: its file.
    split: split of its examples.
    size: number of bytes.
  """

  path: str
  split: str
  size: int

  def items(self) -> Iterator[Item]:  # noqa: D102
    key, image, labels = None, None, {}
    with tar_archive.open_file(self.path) as archive:
      for member in tar_archive.members(archive):
        folder, name = os.path.split(member.name)
        if name.startswith('.'):
          continue
        stem, _, extension = name.partition('.')
        extension = extension.lower()
        if (folder, stem) != key:
          if image:
            yield self._item(image, labels)
          key, image, labels = (folder, stem), None, {}
        if listing.is_image(f'_.{extension}') and not image:
          data = b'' if member.error else member.read()
          image = member, data
        elif extension in _LABELS:
          labels[extension] = member.read()
      if image:
        yield self._item(image, labels)

  def _item(
    self, image: tuple[tar_archive.Member, bytes], labels: dict[str, bytes]
  ) -> Item:
    member, data = image
    error, parsed = member.error, ()
    if not error:
      try:
        parsed = parse_labels(labels)
      except (ValueError, RecursionError) as problem:  # Of deep JSON.
        error = str(problem)
    return Item(
      name=f'{os.path.basename(self.path)}/{member.name.removeprefix("./")}',
      labels=parsed,
      data=data,
      split=self.split,
      file='' if member.offset is None else self.path,
      offset=member.offset or 0,
      error=error,
    )


@dataclasses.dataclass(frozen=True)
class WebDataset(Original):
  """Shards of WebDataset.

  Attributes:
    shards: all of them.
  """

  shards: tuple[Shard, ...]

  def units(self) -> Iterator[Unit]:  # noqa: D102
    yield from self.shards


def open_webdataset(path: str) -> WebDataset:
  """Opens shards of WebDataset.

  Raises:
    ValueError: if there are none.
  """
  return WebDataset(
    tuple(
      Shard(file.path, file.split, file.size)
      for file in shard_files.find(path, tar_archive.EXTENSIONS)
    )
  )


def parse_labels(files: dict[str, bytes]) -> tuple[str, ...]:
  """Returns the labels of an example.

  Args:
    files: content of KEY.cls, KEY.json and KEY.txt, where they exist, by
      extension.

  Raises:
    ValueError: if there is no label, or it cannot be read.
  """
  for extension in _LABELS:
    if extension not in files:
      continue
    text = files[extension].decode().strip()
    value = text
    if extension == 'json':
      value = json.loads(text)
      if isinstance(value, dict):
        values = [value[key] for key in LABEL_KEYS if key in value]
        if not values:
          continue  # Only other facts.
        value = values[0]
    values = value if isinstance(value, list) else [value]
    labels = tuple(
      str(v) for v in values if isinstance(v, str | int) and str(v)
    )
    if len(labels) < len(values):
      raise ValueError(
        f'its .{extension} file has {text[:100]!r}, not a label or a list of'
        ' labels'
      )
    return labels
  raise ValueError('no label: no .cls, no .txt and no .json file with a label')
