"""Two and four processes on digits and photos, through every job that may.

Many programs start here, one after another, so it runs when it is asked for:

  python -m pytest -o addopts= tests/slow/test_many_processes.py
"""

import json
import resource
import signal
import time

import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

import runs
import vtab_data

TINY = (
  '--config.model.depth=1',
  '--config.model.width=16',
  '--config.model.mlp_dim=32',
  '--config.model.heads=2',
  '--config.model.dropout=0.1',
  '--config.log_every=1',
)
DIGITS = (
  '--config=configs/digits.py',
  '--config.total_steps=60',
  '--config.batch_size=32',
  '--config.eval_batch_size=50',
  '--config.eval_every=25',
  '--config.checkpoint_every=20',
  '--config.optim.warmup_steps=5',
  *TINY,
)
FLOWERS = runs.SHARED / 'data' / 'flowers12'
PHOTOS = (
  '--config=configs/folder.py:.',
  '--config.model.name=ViT-Ti/16',
  '--config.data.image_size=32',
  '--config.total_epochs=0',
  '--config.total_steps=30',  # An epoch and a third.
  '--config.batch_size=32',
  '--config.eval_every=12',
  '--config.eval_batch_size=28',
  '--config.optim.warmup_steps=3',
  *TINY,
)


def finish(count, *arguments, workdir):
  arguments = (*arguments, f'--workdir={workdir}')
  logs = workdir.with_name(f'{workdir.name}-logs')
  return runs.finish_processes(count, *arguments, logs=logs)


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
  """Workdirs of the same run by the number of processes."""
  folder = tmp_path_factory.mktemp('digits')
  for count in (1, 2, 4):
    finish(count, *DIGITS, workdir=folder / str(count))
  return {count: folder / str(count) for count in (1, 2, 4)}


@pytest.mark.parametrize('count', [2, 4])
def test_digits(digits, count):
  runs.assert_close(digits[count], digits[1])


@pytest.fixture(scope='module')
def flowers_as_tfds(tmp_path_factory):
  """The photos, written by TFDS into several files a split."""
  folder = tmp_path_factory.mktemp('tfds')
  names = sorted(path.name for path in (FLOWERS / 'train').iterdir())
  rows = {
    split: [
      (path.name, {'image': str(path), 'label': path.parent.name})
      for path in sorted((FLOWERS / split).glob('*/*'))
    ]
    for split in ('train', 'test')
  }
  rows = {
    split: [(f'{i} {key}', row) for i, (key, row) in enumerate(items)]
    for split, items in rows.items()
  }
  tfds.dataset_builders.store_as_tfds_dataset(
    name='flowers12',
    version='1.0.0',
    features=tfds.features.FeaturesDict(
      {
        'image': tfds.features.Image(shape=(None, None, 3)),
        'label': tfds.features.ClassLabel(names=names),
      }
    ),
    split_datasets=rows,
    data_dir=folder,
    download_config=tfds.download.DownloadConfig(num_shards=5),
  )
  return folder


@pytest.mark.skipif(not FLOWERS.exists(), reason='needs the flowers12 photos')
@pytest.mark.parametrize('kind', ['folder', 'tfds'])
def test_flowers(kind, tmp_path, request):
  arguments = [*PHOTOS, f'--config.data.name=folder:{FLOWERS}']
  if kind == 'tfds':
    data_dir = request.getfixturevalue('flowers_as_tfds')
    arguments += ['--config.data.name=tfds:flowers12']
    arguments += [f'--config.data.dir={data_dir}']
  few_shot = [
    '--config.few_shot.every=15',
    f'--config.few_shot.datasets=flowers=folder:{FLOWERS}|train|test',
    '--config.few_shot.shots=1,5',
  ]
  for count in (1, 2, 4):
    finish(count, *arguments, *few_shot, workdir=tmp_path / str(count))
  for count in (2, 4):
    runs.assert_close(tmp_path / str(count), tmp_path / '1')
  names = [
    name for event in runs.events(tmp_path / '4') for name in event
  ]  # Of all events.
  assert names.count('few_shot/flowers/5shot') == 2
  assert names.count('test/accuracy') == 3


def kill_after(step, count, *arguments, workdir):
  """Starts processes and kills all once a later step has been saved."""
  logs = workdir.with_name(f'{workdir.name}-{count}')
  arguments = (*arguments, f'--workdir={workdir}')
  with runs.Processes(count, *arguments, logs=logs) as processes:
    processes.wait_until((workdir / 'checkpoints' / f'{step}').exists)


def test_a_run_goes_on_with_another_number_of_processes(digits, tmp_path):
  workdir = tmp_path / 'run'
  kill_after(20, 2, *DIGITS, workdir=workdir)
  kill_after(40, 1, *DIGITS, workdir=workdir)
  log = finish(4, *DIGITS, workdir=workdir)
  assert 'resuming from step' in log
  runs.assert_close(workdir, digits[1])


def test_the_end_of_the_first_process_ends_the_others(tmp_path):
  arguments = (*DIGITS, '--config.total_steps=100000', f'--workdir={tmp_path}')
  with runs.Processes(2, *arguments, logs=tmp_path / 'logs') as processes:
    processes.wait_until((tmp_path / 'checkpoints' / '20').exists)
    processes.started[0].kill()
    killed = time.monotonic()
    assert processes.end()[1] != 0
    assert time.monotonic() - killed < 30


def test_a_process_without_heartbeat_ends_the_others(tmp_path):
  arguments = (
    *DIGITS,
    '--config.total_steps=100000',
    '--config.distributed.heartbeat_timeout=10',
    f'--workdir={tmp_path}',
  )
  with runs.Processes(2, *arguments, logs=tmp_path / 'logs') as processes:
    processes.wait_until((tmp_path / 'checkpoints' / '20').exists)
    # Its connections stay open, as those of a lost host do.
    processes.started[1].send_signal(signal.SIGSTOP)
    assert processes.started[0].wait(timeout=60) != 0


@pytest.mark.parametrize('index', [0, 1])
def test_ctrl_c_in_one_process_stops_all(index, tmp_path):
  arguments = (*DIGITS, '--config.total_steps=100000', f'--workdir={tmp_path}')
  with runs.Processes(2, *arguments, logs=tmp_path / 'logs') as processes:
    processes.wait_until((tmp_path / 'checkpoints' / '20').exists)
    processes.started[index].send_signal(signal.SIGINT)
    assert processes.end() == [0, 0], processes.log()
    log = processes.log()
  step = runs.events(tmp_path)[-1]['step']
  assert f'stopped by SIGTERM at step {step}' in log
  assert 'Traceback' not in log
  assert (tmp_path / 'checkpoints' / f'{step}').exists()


def test_a_full_disk_ends_all_processes(tmp_path):
  arguments = (*DIGITS, '--config.model.width=64', f'--workdir={tmp_path}')
  with runs.Processes(2, *arguments, logs=tmp_path / 'full') as processes:
    processes.wait_until((tmp_path / 'checkpoints' / '20').exists)
    for process in processes.started:
      # From now on, a checkpoint is too large for their disk.
      limits = (100_000, 100_000)
      resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    assert 0 not in processes.end()
    assert 'could not be saved in' in processes.log()
  assert (tmp_path / 'checkpoints' / '20').exists()
  assert not (tmp_path / 'results.json').exists()
  log = runs.finish_processes(2, *arguments, logs=tmp_path / 'end')
  assert 'resuming from step' in log


def test_an_error_in_one_process_ends_all(tmp_path):
  photos = tmp_path / 'photos'
  for i in range(40):
    path = photos / 'ab'[i % 2] / f'{i}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8), (6 * i,) * 3).save(path)
  bad = photos / 'a' / '12.png'
  bad.write_bytes(bad.read_bytes()[:45])
  arguments = (
    *PHOTOS,
    f'--config.data.name=folder:{photos}',
    '--config.batch_size=4',
    '--config.data.eval=test',
    f'--workdir={tmp_path / "run"}',
  )
  with runs.Processes(2, *arguments, logs=tmp_path / 'logs') as processes:
    assert 0 not in processes.end()
    log = processes.log()
    assert log.count('a/12.png') == 1
    assert 'Traceback' not in log
  # The same run can skip it, and both count it.
  log = finish(
    2, *arguments, '--config.data.skip_corrupt=true', workdir=tmp_path / 'run'
  )
  counts = [e.get('train/skipped') for e in runs.events(tmp_path / 'run')]
  counts = [count for count in counts if count is not None]
  assert len(counts) == 30
  in_train = sum('test' not in path.parts for path in photos.rglob('*.png'))
  assert counts[-1] in (30 * 4 // in_train, -(-30 * 4 // 32))


@pytest.mark.parametrize(
  ('config', 'arguments'),
  [
    ('evaluate', ['--config.batch_size=28']),
    ('features', ['--config.batch_size=28']),
    ('few_shot', ['--config.batch_size=28', '--config.few_shot.shots=1,5']),
    ('interpolate', ['--config.data.eval=test', '--config.batch_size=28']),
    ('predict', ['--config.batch_size=4']),
  ],
)
def test_jobs_on_a_checkpoint(config, arguments, digits, tmp_path):
  argument = run = str(digits[1])
  if config == 'interpolate':
    argument = ','.join(f'{digits[n]}/final.npz' for n in (1, 2))
  if config == 'predict':
    for i in range(10):
      Image.new('L', (8, 8), 25 * i).save(tmp_path / f'{i}.png')
    (tmp_path / '3.png').write_bytes(b'')
    argument = str(tmp_path)
    arguments = [*arguments, f'--config.init_from={run}/final.npz']
  if config == 'interpolate':
    arguments = [*arguments, '--config.data.name=digits']
  arguments = [f'--config=configs/{config}.py:{argument}', *arguments]
  results = []
  for count in (1, 2):
    workdir = tmp_path / f'run-{count}'
    log = finish(count, *arguments, workdir=workdir)
    results.append(json.loads((workdir / 'results.json').read_text()))
  one, two = results
  assert one['metrics'].keys() == two['metrics'].keys()
  for name, value in one['metrics'].items():
    np.testing.assert_allclose(two['metrics'][name], value, rtol=1e-5)
    if 'accuracy' in name or 'shot' in name:
      assert two['metrics'][name] == value
  for path in (tmp_path / 'run-1').glob('predictions*'):
    names = [
      [json.loads(line)['example'] for line in p.read_text().splitlines()]
      for p in (path, tmp_path / 'run-2' / path.name)
    ]
    assert names[0] == names[1]
  for path in (tmp_path / 'run-1').glob('features*'):
    other = tmp_path / 'run-2' / path.name
    assert path.read_bytes() == other.read_bytes(), path.name
  assert 'Traceback' not in log


def test_sweep(tmp_path):
  arguments = (
    *DIGITS,
    '--config.job=sweep',
    '--config.sweep.job=pretrain',
    '--config.sweep.grid=optim.lr=1e-6|3e-3',
    '--config.sweep.seeds=1',
    '--config.data.eval=test',
  )
  for count in (1, 2):
    finish(count, *arguments, workdir=tmp_path / str(count))
  one, two = (
    json.loads((tmp_path / name / 'results.json').read_text()) for name in '12'
  )
  assert one['scores'] == two['scores']
  assert one['chosen'] == two['chosen']
  log = finish(2, *arguments, workdir=tmp_path / '2')
  assert 'is finished' in log


def test_vtab(tmp_path):
  vtab_data.prepare(tmp_path / 'data', ['dtd', 'kitti_distance'])
  accuracies = []
  for count in (1, 2):
    arguments = vtab_data.arguments(
      tmp_path / 'data', tmp_path / str(count), ['dtd', 'kitti_distance']
    )
    workdir = tmp_path / str(count)
    finish(count, *arguments, '--config.data.download=true', workdir=workdir)
    results = json.loads((workdir / 'results.json').read_text())
    accuracies.append(results['metrics'])
    assert (workdir / 'vtab.png').exists()
  assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize('config', ['dedup', 'prepare'])
def test_jobs_for_one_process_say_so(config, tmp_path):
  arguments = (f'--config=configs/{config}.py', f'--workdir={tmp_path / "run"}')
  with runs.Processes(2, *arguments, logs=tmp_path / 'logs') as processes:
    assert 0 not in processes.end()  # JAX aborts whoever ends last.
    assert f"the job '{config}' runs in one process" in processes.log()


def test_a_workdir_that_is_not_shared_is_refused(tmp_path):
  """Process 1 does not see the folder of process 0."""
  with runs.Processes(
    2,
    *DIGITS,
    logs=tmp_path / 'logs',
    own=[[f'--workdir={tmp_path / name}'] for name in 'ab'],
  ) as processes:
    assert 0 not in processes.end()
    log = processes.logs[1].read_text()
  assert (
    f'{tmp_path / "b"} in this process is not the folder that process 0' in log
  )
