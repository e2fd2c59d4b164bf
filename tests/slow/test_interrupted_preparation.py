"""Preparing a dataset with two workers: kills, a full disk, a reader.

The photos are the 720 of ../shared/data/flowers12/train, as one tar per class.

  python -m pytest -o addopts= tests/slow/test_interrupted_preparation.py
"""

import os
import subprocess
import sys
import tarfile
import time

import pytest

import runs
import small_disk

PHOTOS = runs.SHARED / 'data' / 'flowers12' / 'train'

pytestmark = pytest.mark.skipif(
  not PHOTOS.exists(), reason='needs the photos of flowers12'
)


@pytest.fixture(scope='module')
def tars(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tars')
  by_class = {}
  for photo in sorted(PHOTOS.rglob('*.jpg')):
    by_class.setdefault(photo.parent.name, []).append(photo)
  assert len(by_class) == 12
  for label, photos in by_class.items():
    with tarfile.open(folder / f'{label}.tar', 'w') as archive:
      for number, photo in enumerate(photos):
        archive.add(photo, f'{number}_{photo.name}')
  return folder


def keys(tars, folder, workers=2):
  return (
    f'--config=configs/prepare.py:tars:{tars}',
    '--config.prepare.name=flowers',
    f'--config.prepare.workers={workers}',
    '--config.prepare.shard_mib=1',
    f'--config.data.dir={folder / "data"}',
    f'--workdir={folder.parent / folder.name}_run',
  )


@pytest.fixture(scope='module')
def undisturbed(tars, tmp_path_factory):
  folder = tmp_path_factory.mktemp('undisturbed')
  runs.finish(*keys(tars, folder))
  return contents(folder)


def contents(folder):
  root = folder / 'data' / 'flowers'
  assert [path.name for path in root.iterdir()] == ['1.0.0']
  return {path.name: path.read_bytes() for path in (root / '1.0.0').iterdir()}


def group(process):
  """Returns the processes of the session of a process that still run."""
  listed = subprocess.run(
    ['ps', '-o', 'pid=,stat=', '-g', str(process.pid)],
    capture_output=True,
    text=True,
  ).stdout.splitlines()
  return [line for line in listed if 'Z' not in line]


@pytest.mark.parametrize('workers', [1, 3])
def test_any_number_of_workers_writes_the_same(
  tars, undisturbed, tmp_path, workers
):
  runs.finish(*keys(tars, tmp_path, workers))
  assert contents(tmp_path) == undisturbed


def test_kills_change_nothing(tars, undisturbed, tmp_path):
  root = tmp_path / 'data' / 'flowers'
  incomplete = root / '1.0.0.incomplete'
  moments = [
    ('index/*.jsonl', 1),
    ('index/*.jsonl', 9),
    ('*.tfrecord-*-of-?????', 1),
    ('*.tfrecord-*-of-?????', 6),
    ('dataset_info.json', 1),
  ]
  for pattern, count in moments:
    with runs.start(*keys(tars, tmp_path), start_new_session=True) as process:
      while len(list(incomplete.glob(pattern))) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.001)
      process.kill()
    deadline = time.monotonic() + 10
    while group(process):  # The workers exit with it.
      assert time.monotonic() < deadline
      time.sleep(0.01)
  runs.finish(*keys(tars, tmp_path))
  assert contents(tmp_path) == undisturbed


@pytest.fixture
def disk(tmp_path):
  with small_disk.mounted(tmp_path / 'disk', 5) as folder:
    yield folder


def test_a_full_disk_is_one_error(tars, undisturbed, disk):
  log = runs.finish(*keys(tars, disk), expect=1)
  assert 'Traceback' not in log
  (error,) = [line for line in log.splitlines() if line.startswith('error: ')]
  assert 'No space left on device. The same command resumes' in error
  subprocess.run(['mount', '-o', 'remount,size=64m', str(disk)], check=True)
  runs.finish(*keys(tars, disk))
  assert contents(disk) == undisturbed


_READ = """
import sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
counts = [0] * builder.info.features['label'].num_classes
for example in builder.as_dataset('train').as_numpy_iterator():
  assert example['image'].shape[2] == 3
  name = builder.info.features['label'].int2str(example['label'])
  assert example['file_name'].decode().startswith(f'{name}/')
  counts[example['label']] += 1
print(sum(counts), min(counts))
assert 'vit_jax' not in sys.modules
"""


def test_tfds_reads_it_without_this_package(tars, tmp_path):
  runs.finish(*keys(tars, tmp_path, workers=1))
  final = tmp_path / 'data' / 'flowers' / '1.0.0'
  process = subprocess.run(
    [sys.executable, '-c', _READ, os.fspath(final)],
    cwd=tmp_path,
    env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
    capture_output=True,
    text=True,
  )
  assert process.returncode == 0, process.stderr
  # Two of the 720 photos are byte-identical.
  assert process.stdout.split() == ['719', '59']
