"""VTAB in miniature through main: table, chart, choice, resume, gaps."""

import json
import time

from PIL import Image
import pytest

import runs
from vit_jax import main, models, recipes
import vtab_data

TASKS = ('dtd', 'kitti_distance', 'smallnorb_azimuth')


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  vtab_data.prepare(folder, TASKS)
  return str(folder)


def small_vtab(data_dir, tasks, **values):
  config = runs.load_config('vtab', f'ViT-Ti/16,{",".join(tasks)}')
  return runs.override(
    config, **vtab_data.SMALL | {'data__dir': data_dir} | values
  )


def read(path):
  return json.loads(path.read_text())


def test_the_settings_of_table_4():
  config = runs.load_config('vtab', 'ViT-L/16')
  assert (config.total_steps, config.batch_size) == (2500, 512)
  assert (config.optim.lr, config.optim.momentum) == (0.01, 0.9)
  assert (config.optim.warmup_steps, config.optim.clip_norm) == (500, 1)
  assert (config.optim.name, config.optim.schedule) == ('sgd', 'cosine')
  assert (config.data.image_size, config.data.crop) == (384, 'random')
  assert config.vtab.tasks == ()
  # As in the other fine-tuning runs of the model.
  for model in ('ViT-B/16', 'ViT-L/16', 'ViT-H/14'):
    config = runs.load_config('vtab', model)
    tuned = recipes.finetuning(f'{model},cifar10')
    assert config.model.dropout == tuned.model.dropout
    assert config.data.image_size == tuned.data.image_size
    size = config.data.image_size
    grid = models.create(model, num_classes=2).grid_shape((size, size))
    assert grid == ((27, 27) if 'H' in model else (24, 24))


def test_scores_table_and_chart(data_dir, tmp_path):
  config = small_vtab(data_dir, TASKS[:2], sweep__seeds=2)
  results = runs.run(config, tmp_path)
  scores = {
    (task, seed): read(tmp_path / task / f'seed-{seed}' / 'results.json')[
      'metrics'
    ]['test/accuracy']
    for task in TASKS[:2]
    for seed in (0, 1)
  }
  metrics = results['metrics']
  assert metrics['vtab/dtd'] == pytest.approx(
    (scores['dtd', 0] + scores['dtd', 1]) / 2
  )
  assert metrics['vtab/mean'] == pytest.approx(sum(scores.values()) / 4)
  # Of two numbers, the standard deviation is their distance over sqrt(2).
  of_seeds = [
    (scores['dtd', seed] + scores['kitti_distance', seed]) / 2
    for seed in (0, 1)
  ]
  assert metrics['vtab/mean_std'] == pytest.approx(
    abs(of_seeds[0] - of_seeds[1]) / 2**0.5
  )
  assert metrics['vtab/natural'] == metrics['vtab/dtd']
  assert metrics['vtab/structured'] == metrics['vtab/kitti_distance']
  assert results['missing'] == []
  lines = (tmp_path / 'table.txt').read_text().splitlines()
  assert [line[:18].strip() for line in lines[1:6]] == [
    'DTD',
    'KITTI-Dist',
    'VTAB (2 of 19)',
    'natural (1 of 7)',
    'structured (1 of 8',
  ]
  percent = f'{100 * metrics["vtab/mean"]:.2f}'
  assert percent in lines[3].split()
  # The paper's H/14 on these two: (75.2 + 84.5) / 2.
  assert '79.85' in lines[3].split()
  with Image.open(tmp_path / 'vtab.png') as chart:
    assert chart.width > 1000
    assert chart.height > 600

  own = read(tmp_path / 'kitti_distance' / 'seed-1' / 'config.json')
  assert own['data.train'] == 'train800val200'
  assert own['data.eval'] == 'test'
  assert (own['data.crop'], own['data.flip']) == ('resize', True)
  assert own['seed'] == 1
  own = read(tmp_path / 'dtd' / 'seed-0' / 'config.json')
  assert (own['data.crop'], own['data.flip']) == ('random', True)
  # What large models would fill disks with is gone.
  assert not list(tmp_path.rglob('checkpoints'))
  assert not list(tmp_path.rglob('final.npz'))


def test_one_setting_is_chosen_for_all_tasks(data_dir, tmp_path):
  config = small_vtab(
    data_dir,
    TASKS[1:],
    sweep__grid='optim.lr=1e-9|0.1',
    vtab__keep_weights=True,
  )
  results = runs.run(config, tmp_path)
  means = {}
  for setting in ('optim.lr=1e-9', 'optim.lr=0.1'):
    folder = tmp_path / 'choose' / setting
    accuracies = []
    for task in TASKS[1:]:
      accuracies.append(
        read(folder / task / 'results.json')['metrics']['val/accuracy']
      )
      own = read(folder / task / 'config.json')
      assert (own['data.train'], own['data.eval']) == ('train800', 'val=val200')
    means[setting] = sum(accuracies) / 2
  assert results['scores'] == pytest.approx(means)
  chosen = max(means, key=means.get)
  assert results['chosen'] == dict([chosen.split('=')])
  table = (tmp_path / 'table.txt').read_text()
  assert f'{chosen}  <- chosen' in table
  final = tmp_path / chosen / 'smallnorb_azimuth' / 'seed-0'
  assert (final / 'final.npz').exists()
  own = read(final / 'config.json')
  assert own['optim.lr'] == float(chosen.split('=')[1])
  assert (own['data.crop'], own['data.flip']) == ('random', False)


def test_missing_data_is_named_at_once(data_dir, tmp_path):
  config = small_vtab(data_dir, ('dtd', 'resisc45', 'svhn'))
  workdir = tmp_path / 'run'
  with pytest.raises(ValueError, match='2 of 3 tasks have no data:') as error:
    main.run(config, workdir)
  message = str(error.value)
  assert 'vtab:svhn: no prepared data in' in message
  assert 'vtab:resisc45' in message
  assert 'manual folder' in message
  assert 'configs/prepare.py' in message
  assert 'vtab.skip_missing=true' in message
  assert not workdir.exists()

  config.vtab.skip_missing = True
  results = runs.run(config, workdir)
  assert results['missing'] == ['svhn', 'resisc45']
  assert results['metrics']['vtab/mean'] == results['metrics']['vtab/dtd']
  table = (workdir / 'table.txt').read_text()
  assert 'VTAB (1 of 19)' in table
  assert table.count('no data') == 2


def test_data_that_comes_later_is_run_later(tmp_path):
  data_dir, workdir = tmp_path / 'data', tmp_path / 'run'
  vtab_data.prepare(data_dir, ['dtd'])
  config = small_vtab(
    str(data_dir), ('dtd', 'kitti_distance'), vtab__skip_missing=True
  )
  assert runs.run(config, workdir)['missing'] == ['kitti_distance']
  vtab_data.prepare(data_dir, ['kitti_distance'])
  results = runs.run(config, workdir)
  assert results['missing'] == []
  assert 'vtab/kitti_distance' in results['metrics']


def test_killed_in_the_middle_goes_on_with_unfinished_tasks(data_dir, tmp_path):
  arguments = vtab_data.arguments(
    data_dir, tmp_path, TASKS, total_steps=40, checkpoint_every=10
  )
  process = runs.start(*arguments)
  second = tmp_path / 'kitti_distance' / 'seed-0' / 'checkpoints' / '20'
  while not second.exists():
    assert process.poll() is None, process.communicate()[1]
    time.sleep(0.001)
  process.kill()
  process.communicate()
  assert not (tmp_path / 'table.txt').exists()
  finished = tmp_path / 'dtd' / 'seed-0' / 'results.json'
  before = finished.stat().st_mtime_ns
  log = runs.finish(*arguments)
  assert finished.stat().st_mtime_ns == before
  assert 'resuming from step' in log
  assert log.count('step 40/40') == 2
  assert 'VTAB (3 of 19)' in log
  assert (tmp_path / 'vtab.png').exists()
  assert 'is finished' in runs.finish(*arguments)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'vtab__tasks': 'dtd,cats'}, "'cats' is not a VTAB task"),
    ({'sweep__job': 'finetune'}, 'needs a checkpoint to start from'),
    ({'init_from': '/nowhere.npz'}, '/nowhere.npz'),
    ({'sweep__grid': 'optim.lr'}, 'is not KEY=A'),
    ({'data__image_size': 9}, 'cannot be cut into patches'),
    ({'data__eval': 'val200'}, 'the score is test/accuracy'),
    ({'data__eval': 'test,val=x'}, "vtab:dtd has no split 'x'"),
  ],
)
def test_mistakes_are_refused_before_anything_is_written(
  values, message, data_dir, tmp_path
):
  with pytest.raises(ValueError, match=message):
    main.run(small_vtab(data_dir, ('dtd',), **values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
