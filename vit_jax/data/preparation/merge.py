"""Between the passes: joins the indexes, and puts the images in order.

The order depends on the images, their labels and the seed, but not on the files
they are in. It takes about 110 bytes of memory per image.
"""

from __future__ import annotations

import array
import collections
from collections.abc import Collection, Iterable, Iterator, Sequence
import dataclasses
import re

from etils import epath
from jaxtyping import Int32, Int64
import numpy as np

from vit_jax import printing
from vit_jax.data import shortened
from vit_jax.data.preparation.index import Entry
from vit_jax.data.preparation.original import Original

# Rules for byte-identical images of the same split: keep all; keep one with the
# first of their label sets; one with the labels of all; one only if all have
# the same labels.
DUPLICATES = ('keep', 'first', 'all_labels', 'drop')
_NAMES_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Split:
  """The images of a split, in their final order.

  Attributes:
    lines: position of every image's entry in the joined index, in bytes.
    labels: row of every image in `Merged.label_sets`.
    num_bytes: total size of the images.
    num_converted: number of images that are converted to PNG.
  """

  lines: Int64[np.ndarray, ' n']
  labels: Int32[np.ndarray, ' n']
  num_bytes: int
  num_converted: int


@dataclasses.dataclass(frozen=True)
class Merged:
  """All images.

  Attributes:
    index: path of the joined index.
    class_names: name of every class.
    multi_label: whether an image may have several labels.
    label_sets: distinct sets of labels, each as sorted class ids.
    splits: the images to be written.
    unreadable: entries of images that cannot be read.
    duplicates: number of images that equal another one of their split.
    ambiguous: number of distinct images with different labels.
  """

  index: epath.Path
  class_names: tuple[str, ...]
  multi_label: bool
  label_sets: list[tuple[int, ...]]
  splits: dict[str, Split]
  unreadable: list[Entry]
  duplicates: int
  ambiguous: int


class _Table:
  """Columns of the joined index, in the order of the original."""

  def __init__(self):
    self.lines = array.array('q')
    self.sizes = array.array('q')
    self.splits = array.array('i')
    self.labels = array.array('i')
    self.converted = array.array('b')
    self.digests = bytearray()
    # Rows of distinct values.
    self.split_names: dict[str, int] = {}
    self.label_sets: dict[tuple[str, ...], int] = {}

  def append(self, entry: Entry, line: int) -> None:
    self.lines.append(line)
    self.sizes.append(entry.size)
    names, sets = self.split_names, self.label_sets
    self.splits.append(names.setdefault(entry.split, len(names)))
    self.labels.append(sets.setdefault(entry.labels, len(sets)))
    self.converted.append(entry.convert)
    self.digests += bytes.fromhex(entry.digest)


def merge(
  parts: Iterable[epath.Path],
  index: epath.Path,
  original: Original,
  *,
  seed: int,
  duplicates: str,
  class_names: Sequence[str] | None = None,
) -> Merged:
  """Joins the indexes of all units.

  Args:
    parts: paths of the indexes, in the order of the units.
    index: local path of the joined index to write.
    original: the original data.
    seed: seed of the order.
    duplicates: a key of DUPLICATES.
    class_names: see `name_classes`.

  Raises:
    ValueError: if no image can be read, or the splits, the labels or the names
      of the classes are invalid.
  """
  table, unreadable, position = _Table(), [], 0
  with index.open('wb') as joined:
    for line in _lines(parts):
      entry = Entry.parse(line)
      if entry.error:
        unreadable.append(entry)
        continue
      table.append(entry, position)
      joined.write(line)
      position += len(line)
  if not table.lines:
    reasons = [f'{e.name} ({e.error})' for e in unreadable[:_NAMES_SHOWN]]
    raise ValueError(
      'the data contains no image that can be read'
      + (f': {shortened.join(reasons, _NAMES_SHOWN)}, ...' if reasons else '.')
    )
  for name in table.split_names:
    if not re.fullmatch(r'\w+', name):
      raise ValueError(
        f'{printing.printable(name)!r} cannot be the name of a split; use'
        ' letters, digits and underscores.'
      )
  names = name_classes(
    {label for labels in table.label_sets for label in labels},
    original,
    class_names,
  )
  ids = {label: class_id for class_id, label in enumerate(names)}
  sets = [
    tuple(sorted({ids[label] for label in labels}))
    for labels in table.label_sets
  ]
  label_sets = sorted(set(sets))
  rank = {labels: row for row, labels in enumerate(label_sets)}
  labels = np.array([rank[s] for s in sets], np.int32)[np.asarray(table.labels)]
  splits = np.asarray(table.splits)
  order, starts = _group(table.digests, splits, labels)
  ends = np.append(starts[1:], len(order)) - 1
  mixed = labels[order[starts]] != labels[order[ends]]
  if duplicates == 'all_labels':
    for start, end in zip(starts[mixed], ends[mixed], strict=True):
      group = labels[order[start : end + 1]]
      union = {label for row in group for label in label_sets[row]}
      labels[order[start]] = len(label_sets)
      label_sets.append(tuple(sorted(union)))
  if duplicates == 'drop':
    kept = order[starts[~mixed]]
    if not len(kept):
      raise ValueError(
        'every image is byte-identical to one with other labels, and'
        ' prepare.duplicates=drop leaves out all of them; choose first or'
        ' all_labels.'
      )
  else:
    kept = order if duplicates == 'keep' else order[starts]
  return Merged(
    index=index,
    class_names=tuple(names.values()),
    multi_label=(
      original.multi_label
      or duplicates == 'all_labels'
      or any(len(labels) != 1 for labels in label_sets)
    ),
    label_sets=label_sets,
    splits={
      name: _order(kept[splits[kept] == row], table, labels, seed)
      for name, row in sorted(table.split_names.items())
      if (splits[kept] == row).any()
    },
    unreadable=unreadable,
    duplicates=len(order) - len(starts),
    ambiguous=int(mixed.sum()),
  )


def _lines(parts: Iterable[epath.Path]) -> Iterator[bytes]:
  for part in parts:
    with part.open('rb') as file:
      yield from file


def name_classes(
  labels: Collection[str],
  original: Original,
  names: Sequence[str] | None = None,
) -> dict[str, str]:
  """Returns the name of the class of every label, in the order of class ids.

  Args:
    labels: the labels of all images.
    original: the original data, which by default names the classes.
    names: names of all classes, in order, given by the user. The labels are
      either some of these names or their positions, counted from 0.

  Raises:
    ValueError: if the labels do not fit `names`, or the names are not unique or
      not one line each.
  """
  positions = {int(label): label for label in labels if label.isdecimal()}
  if names is None:
    classes = original.class_names(labels)
  elif set(labels) <= set(names):
    classes = {name: name for name in names}
  elif len(positions) == len(labels) and max(positions) < len(names):
    classes = {positions.get(k, str(k)): name for k, name in enumerate(names)}
  else:
    unknown = sorted(set(labels) - set(names))
    raise ValueError(
      f'the labels {shortened.join(unknown, _NAMES_SHOWN)} of the data are'
      f' neither among the {len(names)} names in prepare.class_names nor'
      ' positions in this list.'
    )
  counts = collections.Counter(names or classes.values())
  bad = [n for n in counts if counts[n] > 1 or len(n.splitlines()) != 1]
  if bad:
    raise ValueError(
      'the names of the classes must be unique and one line each, but there are'
      f' {shortened.join(list(map(repr, bad)), _NAMES_SHOWN)}; set'
      ' prepare.class_names to a file with other names.'
    )
  return classes


def _group(digests, splits, labels):
  """Sorts images by split, content and labels.

  Returns:
    The rows of all images in this order, and the positions in it where another
    split or content begins.
  """
  first, second = np.frombuffer(digests, '>u8').reshape(-1, 2).T
  order = np.lexsort((labels, second, first, splits))
  begins = np.ones(len(order), bool)
  begins[1:] = False
  for column in (splits, first, second):
    column = column[order]
    begins[1:] |= column[1:] != column[:-1]
  return order, np.flatnonzero(begins)


def _order(rows, table, labels, seed) -> Split:
  """Shuffles the images of a split."""
  # NumPy guarantees a stable stream for RandomState, not for Generator.
  rows = rows[np.random.RandomState(seed % 2**32).permutation(len(rows))]
  return Split(
    lines=np.asarray(table.lines)[rows],
    labels=labels[rows],
    num_bytes=int(np.asarray(table.sizes)[rows].sum()),
    num_converted=int(np.asarray(table.converted)[rows].sum()),
  )
