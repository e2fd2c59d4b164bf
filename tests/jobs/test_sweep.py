"""A sweep of learning rates on digits: chosen, repeated, killed, resumed."""

import json
import statistics
import time

import pytest

import runs
from vit_jax import main
from vit_jax.jobs.compare import settings as settings_lib


def small_sweep(**values):
  config = runs.shrink(runs.load_config('digits'))
  return runs.override(
    config,
    **{
      'job': 'sweep',
      'total_steps': 200,
      'batch_size': 32,
      'data__image_size': 8,
      'data__eval': 'test',
      'sweep__job': 'pretrain',
      'sweep__grid': 'optim.lr=1e-6|3e-3',
      'sweep__seeds': 2,
    }
    | values,
  )


def test_chooses_by_held_out_accuracy_and_repeats(tmp_path):
  results = runs.run(small_sweep(), tmp_path)
  scores = results['scores']
  assert list(scores) == ['optim.lr=1e-6', 'optim.lr=3e-3']
  assert scores['optim.lr=3e-3'] > scores['optim.lr=1e-6']
  assert results['chosen'] == {'optim.lr': '3e-3'}
  repeats = [
    json.loads((tmp_path / 'repeat' / name / 'results.json').read_text())
    for name in ('seed-0', 'seed-1')
  ]
  accuracies = [r['metrics']['test/accuracy'] for r in repeats]
  metrics = results['metrics']
  assert metrics['test/accuracy'] == pytest.approx(sum(accuracies) / 2)
  assert metrics['test/accuracy_std'] == statistics.stdev(accuracies)
  # The runs to choose from never see the test split, and train on a part.
  chosen_from = tmp_path / 'choose' / 'optim.lr=3e-3'
  settings = json.loads((chosen_from / 'config.json').read_text())
  assert settings['data.eval'] == 'val=train[90%:]'
  assert settings['data.train'] == 'train[:90%]'
  table = (tmp_path / 'table.txt').read_text()
  assert 'optim.lr=3e-3  <- chosen' in table


def test_killed_in_the_middle_ends_with_the_same_table(tmp_path):
  arguments = (
    '--config=configs/digits.py',
    '--config.job=sweep',
    '--config.sweep.job=pretrain',
    '--config.sweep.grid=optim.lr=1e-3|3e-3',
    '--config.sweep.seeds=1',
    '--config.total_steps=40',
    '--config.eval_every=0',
    '--config.checkpoint_every=10',
    '--config.batch_size=16',
    '--config.model.depth=1',
    '--config.model.width=16',
    '--config.optim.warmup_steps=5',
  )
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  runs.finish(*arguments, f'--workdir={whole}')
  process = runs.start(*arguments, f'--workdir={killed}')
  second_run = killed / 'choose' / 'optim.lr=3e-3' / 'checkpoints' / '20'
  while not second_run.exists():
    assert process.poll() is None, process.communicate()[1]
    time.sleep(0.001)
  process.kill()
  process.communicate()
  assert not (killed / 'table.txt').exists()
  finished = killed / 'choose' / 'optim.lr=1e-3' / 'final.npz'
  before = finished.stat().st_mtime_ns
  log = runs.finish(*arguments, f'--workdir={killed}')
  assert finished.stat().st_mtime_ns == before
  table = (whole / 'table.txt').read_text()
  assert (killed / 'table.txt').read_text() == table
  assert 'diverged' not in log
  assert 'is finished' in runs.finish(*arguments, f'--workdir={killed}')


def test_a_run_that_diverges_is_not_chosen(tmp_path):
  config = small_sweep(
    sweep__grid='optim.lr=1e30|1e-3', optim__name='sgd', total_steps=5
  )
  results = runs.run(config, tmp_path)
  assert results['scores']['optim.lr=1e30'] is None
  assert results['chosen'] == {'optim.lr': '1e-3'}
  assert 'diverged' in (tmp_path / 'table.txt').read_text()


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'sweep__grid': 'optim.lr'}, 'is not KEY=A|B|C'),
    ({'sweep__grid': 'optim.rl=1|2'}, 'did you mean optim.lr'),
    ({'sweep__grid': 'optim.lr=1|x'}, "optim.lr='x' is not of type float"),
    ({'sweep__also': 'mixup'}, 'not KEY=VALUE pairs'),
    ({'sweep__grid': 'model.heads=3'}, 'heads'),
    ({'sweep__val': 'nothing'}, "no split 'nothing'"),
    ({'data__eval': 'nothing'}, "no split 'nothing'"),
    (
      {'sweep__grid': 'optim.freeze=a|x/../y'},
      "'optim.freeze=x/../y' cannot be",
    ),
    ({'sweep__also': f'optim.freeze={"x" * 300}'}, 'longer than 240 bytes'),
  ],
)
def test_unreadable_grids_are_refused(values, message, tmp_path):
  with pytest.raises(ValueError, match=message.replace('|', r'\|')):
    main.run(small_sweep(**values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_grid_and_further_settings_combine():
  config = small_sweep(
    sweep__grid='optim.lr=1|2 model.dropout=0.0|0.5',
    sweep__also='mixup=0.1 optim.lr=3; mixup=0.2',
  )
  names = [
    settings_lib.setting_name(setting)
    for setting in settings_lib.settings(config)
  ]
  assert names == [
    'optim.lr=1,model.dropout=0.0',
    'optim.lr=1,model.dropout=0.5',
    'optim.lr=2,model.dropout=0.0',
    'optim.lr=2,model.dropout=0.5',
    'mixup=0.1,optim.lr=3',
    'mixup=0.2',
  ]
