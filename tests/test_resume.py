"""Runs that are killed, terminated or damaged end like undisturbed ones."""

import pathlib
import shlex
import shutil
import signal
import time

import numpy as np
import pytest

import runs

ARGUMENTS = (
  '--config=configs/digits.py',
  '--config.total_steps=150',
  '--config.batch_size=16',
  '--config.log_every=1',
  '--config.eval_every=50',
  '--config.checkpoint_every=20',
  '--config.best_metric=test/accuracy',
  '--config.model.depth=1',
  '--config.model.width=16',
  '--config.model.mlp_dim=32',
  '--config.model.dropout=0.1',
  '--config.optim.accumulate=2',
  '--config.optim.warmup_steps=10',
)


def assert_same_end(workdir, other):
  assert runs.events(workdir) == runs.events(other)
  for name in ('final.npz', 'best.npz'):
    ours, theirs = np.load(workdir / name), np.load(other / name)
    assert sorted(ours.files) == sorted(theirs.files)
    for parameter in ours.files:
      np.testing.assert_array_equal(ours[parameter], theirs[parameter])
  ours, theirs = (
    (folder / 'predictions_test.jsonl').read_text()
    for folder in (workdir, other)
  )
  assert ours == theirs


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  log = runs.finish(*ARGUMENTS, f'--workdir={workdir}')
  assert 'resuming from step' not in log
  return workdir


def steps_logged(workdir):
  path = workdir / 'metrics.jsonl'
  return path.read_text().count('\n') if path.exists() else 0


def start_until(workdir, reached):
  """Starts the run and returns it, still running, once `reached` is true."""
  process = runs.start(*ARGUMENTS, f'--workdir={workdir}')
  deadline = time.monotonic() + 120
  while not reached():
    assert process.poll() is None, process.communicate()[1]
    assert time.monotonic() < deadline
    time.sleep(0.001)
  return process


def test_killed_three_times_and_resumed(undisturbed, tmp_path):
  checkpoints = tmp_path / 'checkpoints'

  # Between two checkpoints.
  process = start_until(
    tmp_path,
    lambda: steps_logged(tmp_path) > 50 and (checkpoints / '40').exists(),
  )
  process.kill()
  process.communicate()
  assert runs.events(tmp_path)[-1]['step'] < 150

  # While a checkpoint is being written.
  unfinished = [
    checkpoints / f'{step}.orbax-checkpoint-tmp' for step in (80, 100, 120, 140)
  ]
  process = start_until(
    tmp_path, lambda: any(folder.exists() for folder in unfinished)
  )
  process.kill()
  _, log = process.communicate()
  assert 'resuming from step' in log
  assert any(folder.exists() for folder in unfinished)

  # After the last checkpoint, before the results.
  process = start_until(tmp_path, lambda: (checkpoints / '150').exists())
  process.kill()
  _, log = process.communicate()
  assert 'resuming from step' in log
  assert not (tmp_path / 'results.json').exists()

  log = runs.finish(*ARGUMENTS, f'--workdir={tmp_path}')
  assert 'resuming from step 150' in log
  assert_same_end(tmp_path, undisturbed)

  # Once more: nothing is left to do, and nothing is touched.
  before = (tmp_path / 'final.npz').stat().st_mtime_ns
  log = runs.finish(*ARGUMENTS, f'--workdir={tmp_path}')
  assert 'is finished, at step 150' in log
  assert (tmp_path / 'final.npz').stat().st_mtime_ns == before


def test_sigterm_and_ctrl_c_save_the_step(undisturbed, tmp_path):
  step = 0
  for number, code, name in (
    (signal.SIGTERM, 0, 'SIGTERM'),
    (signal.SIGINT, 130, 'Ctrl-C'),
  ):
    target = step + 30
    process = start_until(
      tmp_path, lambda target=target: steps_logged(tmp_path) > target
    )
    process.send_signal(number)
    _, log = process.communicate(timeout=120)
    assert process.returncode == code, log
    assert not step or f'resuming from step {step}' in log
    step = runs.events(tmp_path)[-1]['step']
    assert f'stopped by {name} at step {step}' in log
    assert (tmp_path / 'checkpoints' / str(step)).exists()
  (*_, line) = log.splitlines()
  command = shlex.join(runs.command(*ARGUMENTS, f'--workdir={tmp_path}'))
  assert line == f'interrupted; to continue, type: {command}'
  assert 'Traceback' not in log
  log = runs.finish(*ARGUMENTS, f'--workdir={tmp_path}')
  assert f'resuming from step {step}' in log
  assert_same_end(tmp_path, undisturbed)


def flip(path: pathlib.Path):
  content = bytearray(path.read_bytes())
  middle = len(content) // 2
  content[middle : middle + 64] = bytes(
    b ^ 255 for b in content[middle : middle + 64]
  )
  path.write_bytes(content)


def truncate(path: pathlib.Path):
  path.write_bytes(path.read_bytes()[:-100])


def largest_file(folder: pathlib.Path):
  files = [path for path in folder.rglob('*') if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def small_run():
  return runs.override(
    runs.shrink(runs.load_config('digits')),
    total_steps=6,
    log_every=1,
    checkpoint_every=2,
  )


@pytest.mark.parametrize('damage', [flip, truncate])
def test_damaged_newest_checkpoint_is_skipped(damage, tmp_path, caplog):
  runs.run(small_run(), tmp_path)
  events = runs.events(tmp_path)
  weights = dict(np.load(tmp_path / 'final.npz'))
  (tmp_path / 'results.json').unlink()
  damage(largest_file(tmp_path / 'checkpoints' / '6'))

  caplog.set_level('INFO', logger='vit_jax')
  runs.run(small_run(), tmp_path)
  (warning,) = [r for r in caplog.records if r.levelname == 'WARNING']
  assert str(tmp_path / 'checkpoints' / '6') in warning.getMessage()
  assert 'resuming from step 4' in caplog.text
  assert (tmp_path / 'checkpoints' / '6').exists()  # Saved again.
  assert (tmp_path / 'checkpoints' / '6.damaged').exists()
  assert runs.events(tmp_path) == events
  again = np.load(tmp_path / 'final.npz')
  for name, value in weights.items():
    np.testing.assert_array_equal(again[name], value)


def test_all_checkpoints_damaged(tmp_path):
  runs.run(small_run(), tmp_path)
  (tmp_path / 'results.json').unlink()
  for step in (2, 4, 6):
    flip(largest_file(tmp_path / 'checkpoints' / str(step)))
  before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
  with pytest.raises(ValueError, match='every checkpoint in .* is damaged'):
    runs.run(small_run(), tmp_path)
  kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
  noted = {tmp_path / name for name in ('config.json', 'environment.json')}
  for path in before.keys() - {tmp_path} - noted:
    assert kept[path] == before[path], path


def test_another_config_in_the_same_folder_is_refused(tmp_path):
  runs.run(small_run(), tmp_path)
  config = runs.override(small_run(), seed=1, optim__lr=0.1)
  with pytest.raises(ValueError, match=r'seed: 0 -> 1; optim.lr: 0.003 -> 0.1'):
    runs.run(config, tmp_path)


def test_evaluation_and_micro_batches_may_change_on_a_resume(tmp_path):
  config = runs.override(
    small_run(),
    eval_every=1,
    best_metric='test/accuracy',
    optim__name='sgd',  # Adam amplifies gradients that are zero but rounded.
    optim__lr=0.1,
  )
  runs.run(config, tmp_path)
  weights = dict(np.load(tmp_path / 'final.npz'))
  events = runs.events(tmp_path)
  (tmp_path / 'results.json').unlink()
  for step in (4, 6):
    shutil.rmtree(tmp_path / 'checkpoints' / str(step))
  # As if the run had been killed after a best evaluation at step 5.
  (tmp_path / 'best.json').write_text('{"step": 5}')
  changed = runs.override(
    config,
    eval_every=0,
    log_every=2,
    keep_checkpoints=1,
    optim__accumulate=2,
    data__eval='test[:16],other=test[16:32]',
  )
  results = runs.run(changed, tmp_path)
  again = np.load(tmp_path / 'final.npz')
  for name, value in weights.items():
    np.testing.assert_allclose(again[name], value, rtol=1e-4, atol=1e-6)
  evaluated = {e['step']: e for e in runs.events(tmp_path) if 'test/loss' in e}
  assert sorted(evaluated) == [1, 2, 5, 6]
  best = max(evaluated, key=lambda s: (evaluated[s]['test/accuracy'], -s))
  assert results['metrics']['best/step'] == best
  assert 'other/accuracy' in evaluated[5]
  assert 'other/accuracy' not in evaluated[2]
  for event in events:
    if 'test/loss' in event and event['step'] in evaluated:
      np.testing.assert_allclose(
        evaluated[event['step']]['test/loss'], event['test/loss'], rtol=1e-5
      )
  # Once finished, the results would lack what is asked for.
  with pytest.raises(
    ValueError, match='eval_every: 0 -> 3.*configs/evaluate.py'
  ):
    runs.run(runs.override(changed, eval_every=3), tmp_path)
  # A split of the same name is of the same images.
  (tmp_path / 'results.json').unlink()
  renamed = runs.override(changed, data__eval='test[:16],other=test[:32]')
  with pytest.raises(ValueError, match="split 'other': 16 -> 32 .* own"):
    runs.run(renamed, tmp_path)
  lost = runs.override(changed, data__eval='other=test[16:32]')
  with pytest.raises(ValueError, match='it can be other/accuracy'):
    runs.run(lost, tmp_path)
