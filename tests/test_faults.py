"""Failures during a run: divergence, a full disk, unreadable files."""

import gc
import json
import logging

import numpy as np
from PIL import Image
import pytest

import runs
from small_disk import mounted
from vit_jax import main
from vit_jax.checkpoints import finite, store

MEBIBYTE = 1 << 20


def small_run(**values):
  return runs.override(
    runs.shrink(runs.load_config('digits')),
    **{'log_every': 1, 'data__image_size': 8, 'total_steps': 6} | values,
  )


def steps_kept(workdir):
  return sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir())


def test_divergence_stops_the_run_and_leaves_a_good_checkpoint(tmp_path):
  config = small_run(
    total_steps=100, checkpoint_every=1, optim__name='sgd', optim__lr=1e20
  )
  with pytest.raises(finite.NonFiniteError) as error:
    main.run(config, tmp_path)
  message = str(error.value)
  (*_, last) = runs.events(tmp_path)
  assert f'at step {last["step"] + 1}; the run stops' in message
  # What went bad first is named; it was still finite a step before.
  assert message.split('=')[0] in ('grad_norm', 'loss')
  assert np.isfinite(list(last.values())).all()
  assert steps_kept(tmp_path)[-1] == last['step']
  assert not (tmp_path / 'results.json').exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
  # The loss of the only step is that of the initial weights.
  log = runs.finish(
    *('--config=configs/digits.py', f'--workdir={tmp_path}'),
    *('--config.optim.lr=1e38', '--config.optim.weight_decay=1e38'),
    '--config.optim.warmup_steps=0',
    *('--config.total_steps=1', '--config.model.depth=1'),
    expect=1,
  )
  assert 'error: step 1: NaN or infinite values in params/' in log
  assert 'Traceback' not in log
  assert steps_kept(tmp_path) == []
  assert not list(tmp_path.glob('*.npz'))
  assert not (tmp_path / 'results.json').exists()


def test_a_checkpoint_that_is_not_finite_is_refused(tmp_path, monkeypatch):
  config = small_run(
    total_steps=1,
    optim__lr=1e38,
    optim__weight_decay=1e38,
    optim__warmup_steps=0,
  )
  with monkeypatch.context() as without:
    # Such checkpoints exist from the time before they were checked.
    without.setattr(finite, 'non_finite', lambda tree: [])
    with pytest.raises(ValueError, match='not JSON compliant'):
      main.run(config, tmp_path)
  assert steps_kept(tmp_path) == [1]
  with pytest.raises(ValueError, match='checkpoints/1: .* in params/') as error:
    main.run(config, tmp_path)
  assert 'remove this checkpoint' in str(error.value)
  applied = runs.override(
    runs.load_config('evaluate', ',digits'), init_from=str(tmp_path)
  )
  with pytest.raises(ValueError, match=f'{tmp_path}.*Transformer/'):
    main.run(applied, tmp_path / 'evaluate')
  assert not (tmp_path / 'evaluate').exists()


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 16 MiB, 11 of which are used by a file."""
  with mounted(tmp_path / 'disk', 16) as disk:
    (disk / 'ballast').write_bytes(bytes(11 * MEBIBYTE))
    yield disk


def large_run():
  """A run whose checkpoints take 3 MiB each."""
  return small_run(
    checkpoint_every=1,
    keep_checkpoints=1,
    model__width=128,
    model__mlp_dim=512,
    eval_every=2,
  )


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  runs.run(large_run(), workdir)
  return workdir


def assert_same_end(workdir, other):
  assert runs.events(workdir) == runs.events(other)
  ours, theirs = np.load(workdir / 'final.npz'), np.load(other / 'final.npz')
  for name in theirs.files:
    np.testing.assert_array_equal(ours[name], theirs[name])


# Tensorstore calls back into orbax's closed event loop when writing fails.
full_disk = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)


@full_disk
def test_a_full_disk_fails_saves_and_keeps_earlier_ones(
  small_disk, undisturbed, caplog
):
  workdir = small_disk / 'run'
  with pytest.raises(store.SaveError) as error:
    main.run(large_run(), workdir)
  message = str(error.value)
  for part in (
    r'the checkpoint of step 6 (3.',
    f'could not be saved in {workdir}/checkpoints: No space left on device.',
    'MiB are free there;',
    'Existing steps: ',
  ):
    assert part in message
  assert '\n' not in message
  # Moments that are still zero take little space, so that some saves succeed.
  (kept,) = steps_kept(workdir)
  # The first failure is a warning, the last one the error.
  (warning,) = [m for m in caplog.messages if 'could not be saved' in m]
  assert f'the checkpoint of step {kept + 1} (3.' in warning
  assert not (workdir / 'results.json').exists()

  (small_disk / 'ballast').unlink()
  caplog.set_level('INFO', logger='vit_jax')
  runs.run(large_run(), workdir)
  assert f'resuming from step {kept}' in caplog.text
  assert_same_end(workdir, undisturbed)


@full_disk
def test_once_there_is_room_the_next_save_succeeds(small_disk, undisturbed):
  class MakeRoom(logging.Handler):
    """Removes the ballast after the first failure."""

    def emit(self, record):
      if 'could not be saved' in record.getMessage():
        failures.append(record.getMessage())
        (small_disk / 'ballast').unlink(missing_ok=True)

  failures = []
  handler = MakeRoom()
  logging.getLogger('vit_jax').addHandler(handler)
  try:
    runs.run(large_run(), small_disk / 'run')
  finally:
    logging.getLogger('vit_jax').removeHandler(handler)
  assert len(failures) == 1
  assert steps_kept(small_disk / 'run') == [6]
  assert_same_end(small_disk / 'run', undisturbed)
  gc.collect()  # Orbax leaves coroutines, which warn when they are collected.


def test_bad_images_stop_the_run_or_are_counted(tmp_path):
  photos = tmp_path / 'photos'
  for i in range(40):
    path = photos / ('train' if i < 30 else 'test') / 'ab'[i % 2] / f'{i}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8), (6 * i,) * 3).save(path)
  for path in (photos / 'train/b/13.png', photos / 'test/a/38.png'):
    path.write_bytes(path.read_bytes()[:45])
  config = small_run(
    batch_size=10,
    total_steps=9,
    data__name=f'folder:{photos}',
    data__eval='test',
  )
  with pytest.raises(ValueError, match=r'cannot read .*photos/train/b/13\.png'):
    main.run(config, tmp_path / 'run')
  # Now the same run resumes.
  config.data.skip_corrupt = True
  results = runs.run(config, tmp_path / 'run')
  skipped = [
    event['train/skipped']
    for event in runs.events(tmp_path / 'run')
    if 'train/skipped' in event
  ]
  assert len(skipped) == 9
  assert skipped == sorted(skipped)
  assert skipped[2::3] == [1, 2, 3]  # Once an epoch.
  assert results['metrics']['test/skipped'] == 1
  lines = (tmp_path / 'run' / 'predictions_test.jsonl').read_text().splitlines()
  assert len(lines) == 9
  assert not any('38.png' in json.loads(line)['example'] for line in lines)
