"""Features of the examples of a split: `features_SPLIT.npz`, or Parquet.

While they are computed, each batch has a file of its own, so that an
interrupted run resumes and several processes can share the work. The final file
depends neither on interruptions nor on the number of processes: it holds the
batches in order, and no time.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import io
import types
from typing import Any
import zipfile

from etils import epath
import numpy as np

from vit_jax.checkpoints import atomic
from vit_jax.data.preparation import parquet
from vit_jax.distributed import processes
from vit_jax.workdir import predictions

NPZ = 'features_{}.npz'
PARQUET = 'features_{}.parquet'
_PARTS = 'parts_{}'  # Folder of the batches of a split.
FIELDS = ('features', 'label', 'index')
_ROWS_PER_READ = 8192

Rows = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Parts:
  """The files of single batches.

  Attributes:
    folder: their folder.
    num_examples: number of examples of the split.
    batch_size: examples per batch, except for the last one.
  """

  folder: epath.Path
  num_examples: int
  batch_size: int

  @classmethod
  def create(
    cls,
    workdir: epath.Path,
    split: str,
    key: str,
    num_examples: int,
    batch_size: int,
  ) -> 'Parts':
    """Returns the files of a split of a run.

    `key` stands for everything that determines the features beside the config:
    files that were written with another one are not used.
    """
    folder = workdir / _PARTS.format(split) / key
    return cls(folder, num_examples, batch_size)

  @property
  def count(self) -> int:
    """Number of batches."""
    return -(-self.num_examples // self.batch_size)

  def missing(self) -> list[int]:
    """Returns the numbers of the batches that have no file yet."""
    found = set()
    if self.folder.exists():
      found = {path.name for path in self.folder.iterdir()}
    return [n for n in range(self.count) if self._path(n).name not in found]

  def examples(self, numbers: Sequence[int]) -> np.ndarray:
    """Returns the indices of the examples of some batches."""
    return np.concatenate([np.arange(*self._bounds(n)) for n in numbers])

  def write(self, number: int, rows: Rows) -> None:
    """Writes the file of a batch atomically; any process may call this."""
    content = io.BytesIO()
    np.savez(content, **{name: rows[name] for name in FIELDS})
    atomic.write_bytes(self._path(number), content.getvalue())

  def read(self, fields: Sequence[str] = FIELDS) -> Iterator[Rows]:
    """Yields all batches in order."""
    for number in range(self.count):
      with self._path(number).open('rb') as file, np.load(file) as arrays:
        yield {name: arrays[name] for name in fields}

  def _bounds(self, number: int) -> tuple[int, int]:
    begin = number * self.batch_size
    return begin, min(begin + self.batch_size, self.num_examples)

  def _path(self, number: int) -> epath.Path:
    begin, end = self._bounds(number)
    return self.folder / f'{begin:09}-{end:09}.npz'


def remove_parts(workdir: epath.Path) -> None:
  """Removes the files of single batches of all splits, in process 0."""
  if not processes.is_first():
    return
  for folder in workdir.glob(_PARTS.format('*')):
    folder.rmtree()


def join(
  parts: Parts,
  workdir: epath.Path,
  split: str,
  class_names: Sequence[str],
  describe: Callable[[int], str],
) -> int:
  """Writes `features_SPLIT.npz` from all batches; returns the number of rows.

  Its arrays are `features` (n, d) float32; `label`, class numbers (n,) or
  whether each class is a label (n, k); `index` (n,), the positions of the
  examples in the split; `example` (n,), their names; `class_names` (k,). Only a
  batch of features is in memory at a time.

  Raises:
    ValueError: if no example of the split could be read.
  """
  labels = list(parts.read(('label', 'index')))
  label, index = (
    np.concatenate([rows[name] for rows in labels])
    for name in ('label', 'index')
  )
  if not len(index):
    raise ValueError(
      f'none of the images of {split} can be read; the log lists them.'
    )
  width = next(parts.read(('features',)))['features'].shape[1]
  small = {
    'label': label,
    'index': index.astype(np.int64),
    'example': np.array([describe(int(i)) for i in index], np.str_),
    'class_names': np.array(class_names, np.str_),
  }
  with (
    atomic.renamed(workdir / NPZ.format(split)) as path,
    path.open('wb') as file,
    # Without `seek` and `tell`, which gs:// files lack.
    zipfile.ZipFile(
      types.SimpleNamespace(write=file.write, flush=file.flush), 'w'
    ) as archive,
  ):
    features = (rows['features'] for rows in parts.read(('features',)))
    shape = len(index), width
    _write_array(archive, 'features', features, shape, np.dtype(np.float32))
    for name, array in small.items():
      _write_array(archive, name, [array], array.shape, array.dtype)
  return len(index)


def _write_array(archive, name, chunks, shape, dtype) -> None:
  header = {
    'descr': np.lib.format.dtype_to_descr(dtype),
    'fortran_order': False,
    'shape': shape,
  }
  with archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
    np.lib.format.write_array_header_1_0(member, header)
    for chunk in chunks:
      member.write(chunk.astype(dtype, 'C', copy=False).tobytes())


def read(workdir: epath.Path, split: str) -> Rows:
  """Returns all arrays of `features_SPLIT.npz` except the features."""
  path = workdir / NPZ.format(split)
  with path.open('rb') as file, np.load(file) as arrays:
    return {name: arrays[name] for name in arrays if name != 'features'}


def read_features(
  workdir: epath.Path, split: str, rows: int = _ROWS_PER_READ
) -> Iterator[np.ndarray]:
  """Yields the features of `features_SPLIT.npz`, (`rows`, d) at a time."""
  with (
    (workdir / NPZ.format(split)).open('rb') as file,
    zipfile.ZipFile(file) as archive,
    archive.open('features.npy') as member,
  ):
    np.lib.format.read_magic(member)
    (n, width), _, dtype = np.lib.format.read_array_header_1_0(member)
    for begin in range(0, n, rows):
      count = min(rows, n - begin)
      data = member.read(count * width * dtype.itemsize)
      yield np.frombuffer(data, dtype).reshape(count, width)


def write_parquet(workdir: epath.Path, split: str) -> None:
  """Writes `features_SPLIT.parquet` with the content of the .npz file.

  Its columns are `example`, `index`, `label` (a name, or a list of names) and
  `features` (a list of fixed length).

  Raises:
    ValueError: if pyarrow is not installed.
  """
  pa: Any = parquet.require_pyarrow()
  small = read(workdir, split)
  names = small['class_names'].tolist()
  one_label = small['label'].ndim == 1
  label_type = pa.string() if one_label else pa.list_(pa.string())
  writer = None
  with (
    atomic.renamed(workdir / PARQUET.format(split)) as path,
    path.open('wb') as file,
  ):
    begin = 0
    for features in read_features(workdir, split):
      rows = slice(begin, begin + len(features))
      begin = rows.stop
      table = pa.table(
        {
          'example': small['example'][rows].tolist(),
          'index': small['index'][rows],
          'label': pa.array(
            [predictions.named_labels(x, names) for x in small['label'][rows]],
            label_type,
          ),
          'features': pa.FixedSizeListArray.from_arrays(
            pa.array(features.ravel()), features.shape[1]
          ),
        }
      )
      writer = writer or pa.parquet.ParquetWriter(file, table.schema)
      writer.write_table(table)
    writer.close()
