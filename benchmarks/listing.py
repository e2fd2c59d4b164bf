"""Measures how long it takes to open many image files, and the memory it takes.

  python benchmarks/listing.py [--files=200000]

Opens a folder of empty files, 200 per class, the same folder with an index, and
a table of the same files. Memory is that of Python and NumPy per file at the
peak, without the tensor of the names, which holds every name once. Prints
medians with the range.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time
import tracemalloc

from vit_jax.data import folder, table_source

_PER_CLASS = 200


def main():
  """Prints a table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--files', type=int, default=200_000)
  parser.add_argument('--repetitions', type=int, default=5)
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as directory:
    root = pathlib.Path(directory)
    names = _make(root / 'images', options.files)
    rows = [f'{name},{name.partition("/")[0]}\n' for name in names]
    (root / 'table.csv').write_text('path,label\n' + ''.join(rows))
    length = statistics.fmean(map(len, names))
    print(f'{len(names)} files, {length:.0f} bytes per name')
    images, index = str(root / 'images'), str(root / 'index.npz')
    table = f'{root}/table.csv,root={images}'

    def open_folder(**options):
      files = folder.list_files(images, **options)
      return folder.open_folder(images, 'train', files=files)

    def write_index():
      pathlib.Path(index).unlink(missing_ok=True)
      return open_folder(index=index)

    _measure('folder', open_folder, options.repetitions)
    _measure('folder, writing an index', write_index, options.repetitions)
    _measure(
      'folder, from the index',
      lambda: open_folder(index=index),
      options.repetitions,
    )
    _measure(
      'table',
      lambda: table_source.open_table(table, 'train'),
      options.repetitions,
    )
    print(f'index: {os.path.getsize(index) / len(names):.1f} bytes per file')


def _make(root, count):
  names = []
  for i in range(count):
    label = f'n{i // _PER_CLASS:08d}'
    if i % _PER_CLASS == 0:
      (root / label).mkdir(parents=True)
    names.append(f'{label}/{label}_{i}.JPEG')
    (root / names[-1]).touch()
  return names


def _measure(name, opened, repetitions):
  opened().fingerprint()  # Starts TensorFlow.
  opening, hashing = [], []
  for _ in range(repetitions):
    start = time.perf_counter()
    source = opened()
    opening.append(time.perf_counter() - start)
    start = time.perf_counter()
    source.fingerprint()
    hashing.append(time.perf_counter() - start)
  tracemalloc.start()
  source = opened()
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  count = len(source.names.numpy()) * 5 / 4  # A fifth is for testing.
  print(
    f'{name:26} opening {_text(opening)} s, fingerprint {_text(hashing)} s,'
    f' {peak / count:.0f} bytes per file'
  )


def _text(seconds):
  median = statistics.median(seconds)
  return f'{median:.2f} ({min(seconds):.2f} to {max(seconds):.2f})'


if __name__ == '__main__':
  main()
