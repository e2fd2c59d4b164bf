"""Measures the preparation of a dataset from tars: rate and memory.

  python benchmarks/prepare.py PHOTOS
  python benchmarks/prepare.py PHOTOS --size_px=0 --images=1000,2000

PHOTOS is a folder of JPEG files. The script makes tars of 1,000 images each
from them, scaled down to `size_px` (0: as they are). Every image has its own
bytes: a comment with its number. Then it runs configs/prepare.py for each
number of images, and prints, per run, the images and megabytes per second of
the whole command, images per second of CPU time of all processes, and the
largest total of the memory that they allocated in each quarter of the run. The
last line is about the images by which the first and the last run differ, which
excludes the start of the processes.
"""

import argparse
from collections.abc import Iterator
import io
import itertools
import pathlib
import resource
import subprocess
import sys
import tarfile
import tempfile
import time

from PIL import Image

import timing

IMAGES_PER_TAR = 1000
_INTERVAL = 0.2  # Seconds between two looks at memory.


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('photos', type=pathlib.Path)
  parser.add_argument('--images', default='25000,50000')
  parser.add_argument('--size_px', type=int, default=64)
  parser.add_argument('--workers', type=int, default=2)
  parser.add_argument('--folder', help='for temporary files')
  return parser.parse_args()


def _photos(folder: pathlib.Path, size_px: int) -> list[bytes]:
  """Returns the JPEG files, scaled down."""
  contents = []
  for path in sorted(folder.rglob('*')):
    if path.suffix.lower() in ('.jpg', '.jpeg'):
      content = path.read_bytes()
      if size_px:
        small, image = io.BytesIO(), Image.open(path).convert('RGB')
        image.thumbnail((size_px, size_px))
        image.save(small, 'JPEG')
        content = small.getvalue()
      contents.append(content)
  return contents


def _distinct(photos: list[bytes], count: int) -> Iterator[bytes]:
  """Yields images that differ in a comment, the segment after the first."""
  for i, photo in zip(range(count), itertools.cycle(photos)):
    text = b'%08d' % i
    length = (2 + len(text)).to_bytes(2, 'big')
    yield photo[:2] + b'\xff\xfe' + length + text + photo[2:]


def _write_tars(
  images: Iterator[bytes], folder: pathlib.Path
) -> tuple[int, int]:
  """Writes the tars; returns the number of images and of their bytes."""
  folder.mkdir()
  count = size = 0
  for number in itertools.count(1):
    part = list(itertools.islice(images, IMAGES_PER_TAR))
    if not part:
      return count, size
    label = f'n{number:08d}'
    with tarfile.open(folder / f'{label}.tar', 'w') as tar:
      for i, content in enumerate(part):
        info = tarfile.TarInfo(f'{label}_{i}.JPEG')
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    count += len(part)
    size += sum(map(len, part))


def _memory(pid: int) -> int:
  """Returns the memory of a process and its descendants, in bytes."""
  total = 0
  try:
    root = pathlib.Path(f'/proc/{pid}')
    for line in (root / 'smaps_rollup').read_text().splitlines():
      # Without program code, which is shared with unrelated processes.
      if line.startswith(('Pss_Anon:', 'Pss_Shmem:')):
        total += int(line.split()[1]) * 1024
    for task in (root / 'task').iterdir():
      for child in (task / 'children').read_text().split():
        total += _memory(int(child))
  except OSError:  # It has ended.
    pass
  return total


def _cpu_seconds() -> float:
  usage = resource.getrusage(resource.RUSAGE_CHILDREN)
  return usage.ru_utime + usage.ru_stime


def _run(
  tars: pathlib.Path, folder: pathlib.Path, workers: int
) -> tuple[float, float, list[tuple[float, int]]]:
  """Prepares the tars; returns seconds, CPU seconds, and memory over time."""
  command = [
    *(sys.executable, '-m', 'vit_jax.main'),
    f'--config=configs/prepare.py:tars:{tars}',
    f'--workdir={folder / "run"}',
    f'--config.data.dir={folder / "data"}',
    '--config.prepare.name=benchmark',
    f'--config.prepare.workers={workers}',
  ]
  cpu, begin, samples = _cpu_seconds(), time.perf_counter(), []
  with open(folder / 'log', 'w') as log:
    process = subprocess.Popen(
      command, cwd=timing.ROOT, stdout=log, stderr=subprocess.STDOUT
    )
    while process.poll() is None:
      samples.append((time.perf_counter() - begin, _memory(process.pid)))
      time.sleep(_INTERVAL)
  seconds = time.perf_counter() - begin
  if process.returncode:
    sys.exit((folder / 'log').read_text())
  return seconds, _cpu_seconds() - cpu, samples


def _rates(count: int, size: int, seconds: float, cpu_seconds: float) -> str:
  return (
    f'{count / seconds:,.0f} images/s, {size / seconds / 1e6:.1f} MB/s; per CPU'
    f' second {count / cpu_seconds:,.0f} images,'
    f' {size / cpu_seconds / 1e6:.1f} MB'
  )


def main() -> None:
  """Runs the benchmark."""
  options = _options()
  photos = _photos(options.photos, options.size_px)
  runs = []
  for images in map(int, options.images.split(',')):
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
      folder = pathlib.Path(name)
      count, size = _write_tars(_distinct(photos, images), folder / 'tars')
      seconds, cpu_seconds, samples = _run(
        folder / 'tars', folder, options.workers
      )
    runs.append((count, size, seconds, cpu_seconds))
    rates = _rates(count, size, seconds, cpu_seconds)
    quarters = [
      max(m for t, m in samples if i <= 4 * t / seconds < i + 1) / 2**20
      for i in range(4)
    ]
    print(
      f'{count:,} images of {size / count / 1000:.1f} KB in {seconds:.1f} s,'
      f' {options.workers} workers: {rates}; memory by quarter:'
      f' {", ".join(f"{q:,.0f}" for q in quarters)} MiB',
      flush=True,
    )
  if len(runs) > 1:
    difference = [b - a for a, b in zip(runs[0], runs[-1], strict=True)]
    print(f'difference of the runs: {_rates(*difference)}')


if __name__ == '__main__':
  main()
