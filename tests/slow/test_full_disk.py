"""A disk that fills up during a run, with and without room at the end.

The file system is a tmpfs of 32 MiB, which takes the right to mount one:

  python -m pytest -o addopts= tests/slow/test_full_disk.py
"""

import contextlib
import json

import pytest

import runs
import small_disk

KEYS = (
  '--config=configs/digits.py',
  '--config.total_steps=150',
  '--config.log_every=10',
  '--config.eval_every=10',
  '--config.checkpoint_every=10',
  '--config.optim.warmup_steps=5',
  '--config.best_metric=test/accuracy',
)


@pytest.fixture
def disk(tmp_path):
  with small_disk.mounted(tmp_path / 'disk', 32) as folder:
    yield folder


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('undisturbed')
  runs.finish(*KEYS, f'--workdir={workdir}')
  return workdir


def fill(disk):
  with contextlib.suppress(OSError), (disk / 'ballast').open('wb', 0) as file:
    while True:
      file.write(bytes(4096))


def run(disk, actions):
  """Runs to the end; returns the exit code and the lines of the log.

  Args:
    disk: the file system.
    actions: by step, what happens when its metrics are logged.
  """
  lines = []
  with runs.start(*KEYS, f'--workdir={disk / "run"}') as process:
    for line in process.stderr:
      lines.append(line)
      for step, action in actions.items():
        if f'step {step:3d}/150' in line:
          action()
  return process.returncode, lines


def results(workdir):
  content = json.loads((workdir / 'results.json').read_text())
  return {k: content[k] for k in content.keys() - {'seconds', 'core_days'}}


def assert_same(workdir, other):
  assert runs.events(workdir) == runs.events(other)
  assert results(workdir) == results(other)
  for name in ('final.npz', 'best.npz', 'predictions_test.jsonl'):
    assert (workdir / name).read_bytes() == (other / name).read_bytes(), name


def problems(lines):
  assert not any('Traceback' in line or 'Exception' in line for line in lines)
  return [line for line in lines if 'could not be' in line]


def test_a_disk_that_is_freed_in_time_changes_nothing(disk, undisturbed):
  code, lines = run(
    disk, {50: lambda: fill(disk), 100: (disk / 'ballast').unlink}
  )
  assert code == 0
  # Metrics, events, best.json and best.npz, and a checkpoint.
  assert 1 <= len(problems(lines)) <= 5
  assert_same(disk / 'run', undisturbed)


def test_a_disk_that_stays_full_is_one_error(disk, undisturbed):
  code, lines = run(disk, {50: lambda: fill(disk)})
  assert code == 1
  assert len(problems(lines[:-1])) <= 5
  (error,) = [line for line in lines if line.startswith('error: ')]
  assert error == lines[-1]
  assert 'the checkpoint of step 150 (3.1 MiB) could not be saved' in error
  assert 'No space left on device' in error
  assert not (disk / 'run' / 'results.json').exists()

  (disk / 'ballast').unlink()
  code, lines = run(disk, {})
  assert code == 0
  assert any('resuming from step ' in line for line in lines)
  assert_same(disk / 'run', undisturbed)
