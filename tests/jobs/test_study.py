"""Studies in miniature through main: points, scores, table, resume."""

import json
import statistics
import time

from PIL import Image
import pytest

import runs
from vit_jax import main, models
from vit_jax.jobs.compare import points
from vit_jax.models import flops

SMALL = {
  'job': 'study',
  'total_steps': 4,
  'batch_size': 16,
  'eval_every': 0,
  'checkpoint_every': 0,
  'data__image_size': 8,
  'data__eval': 'test[:64]',
  'model__name': 'ViT-Ti/8',
  'model__depth': 1,
  'model__width': 16,
  'model__mlp_dim': 16,
  'model__heads': 2,
  'optim__warmup_steps': 1,
  'optim__ema_decay': 0.0,
  'sweep__job': 'pretrain',
  'sweep__seeds': 2,
}
POINTS = 'short: total_steps=2; long (other): total_steps=4'


def small_study(**values):
  values = SMALL | {'study__points': POINTS} | values
  return runs.override(runs.load_config('digits'), **values)


def read(path):
  return json.loads(path.read_text())


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('study')
  config = small_study(
    few_shot__datasets='digits|train[:100]|test[:64]',
    few_shot__shots='5',
    study__finetune='tuned=digits',
    study__finetune_keys='total_steps=1 batch_size=8 optim.warmup_steps=0'
    ' data.image_size=8 data.eval=test[:64] model.dtype=float32',
    study__metrics='few_shot/digits/5shot,test/accuracy',
  )
  runs.run(config, workdir, page=True)
  return workdir


def test_points_are_scored_by_their_runs(study):
  by_name = {p['name']: p for p in read(study / 'results.json')['points']}
  assert list(by_name) == ['short', 'long']
  for name, point in by_name.items():
    folders = [study / name / f'seed-{seed}' for seed in (0, 1)]
    for metric, folder, key in (
      ('test/accuracy', 'train', 'test/accuracy'),
      ('few_shot/digits/5shot', 'few_shot', 'few_shot/digits/5shot'),
      ('finetune/tuned/accuracy', 'tuned', 'test/accuracy'),
    ):
      values = [
        read(f / folder / 'results.json')['metrics'][key] for f in folders
      ]
      assert point['metrics'][metric] == pytest.approx(sum(values) / 2)
      std = statistics.stdev(values)
      assert point['metrics'][f'{metric}_std'] == pytest.approx(std)
    seconds = [read(f / 'train' / 'results.json')['seconds'] for f in folders]
    assert point['costs']['core_days'] == pytest.approx(
      sum(seconds) / 2 / 86400
    )
  tuned = read(study / 'long' / 'seed-1' / 'tuned' / 'config.json')
  assert tuned['init_from'] == str(study / 'long/seed-1/train/final.npz')
  assert (tuned['model.depth'], tuned['optim.name']) == (1, 'sgd')
  # Seeds tell runs apart.
  losses = [
    read(study / 'long' / f'seed-{seed}' / 'train' / 'results.json')['metrics'][
      'test/loss'
    ]
    for seed in (0, 1)
  ]
  assert losses[0] != losses[1]


def test_compute_is_counted(study):
  model = models.create(
    'ViT-Ti/8', num_classes=0, depth=1, width=16, mlp_dim=16, heads=2
  )
  forward = flops.forward(model, (8, 8))
  for point, steps in zip(
    read(study / 'results.json')['points'], (2, 4), strict=True
  ):
    costs = point['costs']
    assert costs['images'] == 16 * steps
    exaflops = 3 * forward * 16 * steps / 1e18
    assert costs['exaflops'] == pytest.approx(exaflops, rel=1e-9)
    assert costs['compiler_exaflops'] > costs['exaflops']


def test_table_chart_and_page(study):
  lines = (study / 'table.txt').read_text().splitlines()
  assert [line.split()[:3] for line in lines[1:3]] == [
    ['short', 'ViT', '2'],
    ['long', 'other', '4'],
  ]
  assert lines[1].endswith('*')  # Nothing is cheaper.
  with Image.open(study / 'study.png') as chart:
    assert chart.width > 1000  # Of two panels.
  html = (study / 'report.html').read_text()
  assert 'could not be drawn' not in html
  assert lines[2].split()[-1].rstrip('*') in html
  assert 'href="long/seed-1/train/report.html"' in html
  assert 'Accuracy of the points, by family' in html


def test_a_study_is_extended_and_collects_runs(study, tmp_path):
  finished = study / 'short' / 'seed-0' / 'train' / 'results.json'
  before = finished.stat().st_mtime_ns
  config = small_study(study__collect=str(study / 'short'), study__points='')
  results = runs.run(config, tmp_path / 'collected')
  (point,) = results['points']
  assert point['name'] == 'ViT-Ti/8, 2 steps'
  assert (point['seeds'], point['costs']['steps']) == (2, 2)
  own = {p['name']: p for p in read(study / 'results.json')['points']}
  accuracy = own['short']['metrics']['test/accuracy']
  assert point['metrics']['test/accuracy'] == accuracy

  config.study.points = {'new': {'total_steps': 3}}
  config.sweep.seeds = 2
  results = runs.run(config, tmp_path / 'collected')
  assert [p['name'] for p in results['points']] == ['new', point['name']]
  assert finished.stat().st_mtime_ns == before


def test_killed_in_the_middle_ends_alike(tmp_path):
  keys = SMALL | {'eval_every': 0, 'total_steps': 30, 'checkpoint_every': 5}
  keys |= {'sweep__seeds': 1, 'study__points': 'a: seed=0; b: optim.lr=0.01'}
  arguments = [
    '--config=configs/digits.py',
    *(f'--config.{k.replace("__", ".")}={v}' for k, v in keys.items()),
  ]
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  runs.finish(*arguments, f'--workdir={whole}')
  process = runs.start(*arguments, f'--workdir={killed}')
  second = killed / 'b' / 'seed-0' / 'train' / 'checkpoints' / '10'
  while not second.exists():
    assert process.poll() is None, process.communicate()[1]
    time.sleep(0.001)
  process.kill()
  process.communicate()
  assert not (killed / 'table.txt').exists()
  finished = killed / 'a' / 'seed-0' / 'train' / 'final.npz'
  before = finished.stat().st_mtime_ns
  runs.finish(*arguments, f'--workdir={killed}')
  assert finished.stat().st_mtime_ns == before
  tables = [
    [line.split() for line in (w / 'table.txt').read_text().splitlines()]
    for w in (whole, killed)
  ]
  core_days = 6  # Which no two runs share.
  for ours, theirs in zip(*tables, strict=True):
    assert len(ours) == len(theirs)
    for column, cell in enumerate(ours):
      assert column == core_days or cell == theirs[column]


def test_a_point_that_diverges_has_no_place(tmp_path):
  config = small_study(
    study__points='a: optim.lr=1e30; b: optim.lr=1e-3',
    optim__name='sgd',
    optim__clip_norm=0.0,
    total_steps=5,
    sweep__seeds=1,
  )
  lines = [p['diverged'] for p in runs.run(config, tmp_path)['points']]
  assert lines == [1, 0]
  assert 'diverged' in (tmp_path / 'table.txt').read_text().splitlines()[1]


def test_points_of_texts():
  config = small_study(
    study__points='B/32, 7 epochs (ViT): total_epochs=7.0;'
    ' wide: model.width=32 data.name=folder:/a; as given: ; optim.lr=0.1;'
    ' R: model.name=R50x1; H: model.name=R50+ViT-B/16;'
    ' A: model.name=Axial-ViT-B/16'
  )
  found = {p.name: p for p in points.list_points(config)}
  assert [(p.name, p.family) for p in found.values()] == [
    ('B/32, 7 epochs', 'ViT'),
    ('wide', 'ViT'),
    ('as given', 'ViT'),
    ('optim.lr=0.1', 'ViT'),
    ('R', 'ResNet'),
    ('H', 'hybrid'),
    ('A', 'Axial-ViT'),
  ]
  assert found['B/32, 7 epochs'].folder == 'B-32,-7-epochs'
  long = found['B/32, 7 epochs'].config
  assert (long.total_steps, long.total_epochs) == (0, 7.0)
  assert found['wide'].config.data.name == 'folder:/a'
  own = found['wide'].config
  assert (own.job, own.study.points, own.sweep.seeds) == ('pretrain', {}, 3)


def test_points_of_a_grid():
  config = small_study(study__points='', sweep__grid='model.width=16|32')
  names = [point.name for point in points.list_points(config)]
  assert names == ['model.width=16', 'model.width=32']


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'study__points': 'a: optim.lr'}, 'is not KEY=VALUE pairs'),
    ({'study__points': 'a: optim.rl=1'}, 'did you mean optim.lr'),
    ({'study__points': 'a: ; a: seed=1'}, "two points are called 'a'"),
    ({'study__points': 'a b: ; a-b: seed=1'}, "two points .* folder 'a-b'"),
    ({'study__points': '', 'study__collect': '/nowhere'}, '/nowhere'),
    ({'sweep__grid': 'optim.lr=1|2'}, 'both list what to study'),
    ({'study__finetune_keys': 'optim.rl=1'}, 'did you mean optim.lr'),
  ],
)
def test_mistakes_are_refused_before_anything_is_written(
  values, message, tmp_path
):
  with pytest.raises((ValueError, OSError), match=message):
    main.run(small_study(**values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_curves_of_an_ablation(tmp_path):
  """tests/test_main.py runs the default ablation, tests/slow runs all."""
  config = runs.shrink(runs.load_config('ablation', 'pooling'))
  results = runs.run(config, tmp_path)
  (metric,) = results['drawn']
  assert len(results['points']) > 1
  assert all(metric in point['curves'] for point in results['points'])


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'study__points': '..: total_steps=2'}, r"'\.\.' cannot be the folder"),
    ({'study__points': '$: total_steps=2'}, "'-' cannot be the folder"),
    ({'study__points': 'compiled: total_steps=2'}, 'must not be compiled or'),
    ({'study__points': 'a: model.heads=3'}, 'heads'),
    ({'study__points': 'a: optim.warmup_steps=4'}, 'all of a run of 4 steps'),
    ({'study__points': 'a: data.train=learn'}, "no split 'learn'"),
    ({'study__metrics': 'val/accuracy'}, 'is not measured; .* test/accuracy'),
    ({'study__finetune': 'nothing'}, "unknown dataset 'nothing'"),
    ({'study__finetune': '..=digits'}, r'unique name .* got .\.\.'),
    ({'study__finetune': 'digits,digits'}, "unique name .* got 'digits'"),
    (
      {'study__finetune': 'digits', 'study__finetune_keys': 'data.eval=x'},
      "no split 'x'",
    ),
    ({'few_shot__datasets': 'digits|train|x'}, "no split 'x'"),
  ],
)
def test_impossible_studies_are_refused_before_anything_is_written(
  values, message, tmp_path
):
  with pytest.raises(ValueError, match=message):
    main.run(small_study(**values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
