"""Table 5 in miniature, with a sweep before every fine-tuning, and kills.

python -m pytest -o addopts= tests/slow/test_table_5.py
"""

import collections
import json
import subprocess
import tarfile
import time

import pytest

import runs

DATA = runs.SHARED / 'data'
TINY = 'model.width=16 model.mlp_dim=16 model.heads=2 model.depth'


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
  """A study of two models on 64 and 200 images, with two downstream sets."""
  if not DATA.exists():
    pytest.skip('needs ../shared/data')
  cifar = tmp_path_factory.mktemp('data') / 'cifar'
  counts = collections.Counter()
  with tarfile.open(DATA / 'cifar10.tar.xz') as tar:
    for member in tar:
      if not member.isfile() or not member.name.endswith('.jpg'):
        continue
      *_, split, label, name = member.name.split('/')
      counts[split, label] += 1
      if counts[split, label] <= 40:
        path = cifar / split / label / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tar.extractfile(member).read())
  return (
    f'--config=configs/data_study.py:folder:{cifar}',
    f'--config.study.points=A: {TINY}=1; B: {TINY}=2',
    '--config.data_study.sizes=64,200',
    '--config.data.image_size=16',
    '--config.model.name=ViT-Ti/8',
    '--config.batch_size=32',
    '--config.total_steps=10',
    '--config.eval_every=5',
    '--config.sweep.seeds=1',
    f'--config.study.finetune=cifar=folder:{cifar},folder:{DATA / "flowers12"}',
    '--config.study.finetune_sweep=true',
    '--config.study.finetune_keys=total_epochs=0 total_steps=6 batch_size=32'
    ' optim.warmup_steps=1 checkpoint_every=2 data.image_size=16',
    '--config.study.metrics=',
  )


def kill_when(pattern, folder, arguments):
  """Starts the study, and kills it when a file exists."""
  log = folder.with_suffix('.log')
  with log.open('w') as file:  # A pipe would be full before that.
    process = subprocess.Popen(
      runs.command(*arguments, f'--workdir={folder}'),
      cwd=runs.ROOT,
      stderr=file,
    )
    while not any(folder.glob(pattern)):
      assert process.poll() is None, log.read_text()[-2000:]
      time.sleep(0.001)
    process.kill()
    process.wait()


def test_killed_twice_the_table_is_the_same(arguments, tmp_path):
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  runs.finish(*arguments, f'--workdir={whole}')
  # In a trial, and in a final run of the larger set.
  for pattern in (
    'A*64-examples/seed-0/*-choose/*/checkpoints/4',
    'B*200-examples/seed-0/flowers12/checkpoints/4',
  ):
    kill_when(pattern, killed, arguments)
    assert not (killed / 'table.txt').exists()
  finished = killed.glob('*/seed-0/*-choose/*/results.json')
  times = {path: path.stat().st_mtime_ns for path in finished}
  assert len(times) > 8
  runs.finish(*arguments, f'--workdir={killed}')
  for path, before in times.items():
    assert path.stat().st_mtime_ns == before
  # The second table has times.
  table, again = (
    (folder / 'table.txt').read_text().partition('\n\n')[0]
    for folder in (whole, killed)
  )
  assert again == table
  rows = [line.split()[1:3] for line in table.splitlines()[1:]]
  for size in ('64', '200'):
    for name in ('cifar', 'flowers12', 'mean'):
      assert [size, f'finetune/{name}/accuracy'] in rows


def test_each_fine_tuning_uses_the_best_rate(arguments, tmp_path):
  runs.finish(
    *arguments,
    f'--config.study.points=A: {TINY}=1',
    '--config.data_study.sizes=64',
    f'--workdir={tmp_path}',
  )
  (seed,) = tmp_path.glob('A*/seed-0')
  for name in ('cifar', 'flowers12'):
    scores = {}
    for trial in (seed / f'{name}-choose').iterdir():
      config = json.loads((trial / 'config.json').read_text())
      assert config['data.train'] == 'train[:90%]'
      assert config['data.eval'] == 'val=train[90%:]'
      assert not (trial / 'final.npz').exists()
      results = json.loads((trial / 'results.json').read_text())
      scores[config['optim.lr']] = results['metrics']['val/accuracy']
    # Table 4's rates for batches of 512, scaled to 32.
    assert sorted(scores) == [lr / 16 for lr in (0.001, 0.003, 0.01, 0.03)]
    final = json.loads((seed / name / 'config.json').read_text())
    assert scores[final['optim.lr']] == max(scores.values())
    assert final['data.train'] == 'train'
