"""One run per folder."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

from etils import epath
import pytest

import runs
from vit_jax import main
from vit_jax.workdir import lock


def test_a_second_run_is_refused_by_the_name_of_the_first(tmp_path):
  folder = epath.Path(tmp_path) / 'runs' / 'digits'
  with lock.hold(folder):
    before = (folder / 'lock').read_text()
    assert json.loads(before)['process'] == os.getpid()
    with (
      pytest.raises(lock.LockedError, match=rf'\(process {os.getpid()} on '),
      lock.hold(folder),
    ):
      pass
    assert (folder / 'lock').read_text() == before
  assert not (tmp_path / 'runs').exists()  # It was created, and left empty.
  folder.mkdir(parents=True)
  for _ in range(2):
    with lock.hold(folder):
      (folder / 'results.json').touch()
  assert [p.name for p in folder.iterdir()] == ['results.json']


def test_the_command_fails_at_once_and_touches_nothing(tmp_path):
  folder = tmp_path / 'run'
  with lock.hold(epath.Path(folder)):
    before = {p: p.stat().st_mtime_ns for p in (folder, *folder.iterdir())}
    begin = time.monotonic()
    log = runs.finish(
      '--config=configs/digits.py', f'--workdir={folder}', expect=1
    )
    assert time.monotonic() - begin < 30  # 10 s on an idle machine.
    after = {p: p.stat().st_mtime_ns for p in (folder, *folder.iterdir())}
  assert after == before
  (error,) = [line for line in log.splitlines() if line.startswith('error: ')]
  assert f'error: {folder} is in use by another run (process ' in error
  assert str(os.getpid()) in error
  assert 'Traceback' not in log


HOLD = """
import sys, time
from etils import epath
from vit_jax.workdir import lock
with lock.hold(epath.Path(sys.argv[1])):
  print('held', flush=True)
  time.sleep(600)
"""


def test_the_kernel_releases_the_lock_of_a_killed_run(tmp_path):
  folder = epath.Path(tmp_path)
  process = subprocess.Popen(
    [sys.executable, '-c', HOLD, tmp_path],
    stdout=subprocess.PIPE,
    text=True,
    cwd=runs.ROOT,
  )
  assert process.stdout.readline() == 'held\n'
  with pytest.raises(lock.LockedError, match=f'process {process.pid} on '):
    lock.hold(folder).__enter__()
  process.send_signal(signal.SIGKILL)
  process.wait()
  process.stdout.close()
  assert (folder / 'lock').exists()
  with lock.hold(folder):
    assert json.loads((folder / 'lock').read_text())['process'] == os.getpid()


def test_an_invalid_run_leaves_no_folder(tmp_path):
  config = runs.override(runs.load_config('digits'), init_from='x.npz')
  with pytest.raises(ValueError, match='init_from'):
    main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


class Clock:
  """Time that passes only while somebody sleeps."""

  def __init__(self, every_second=lambda now: None):
    self.now = 0
    self._every_second = every_second

  def sleep(self, seconds):
    for _ in range(seconds):
      self.now += 1
      self._every_second(self.now)

  def time(self):
    return self.now

  def __getattr__(self, name):
    return getattr(time, name)


@pytest.fixture
def without_flock(monkeypatch):
  def refuse(*unused):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(lock.fcntl, 'flock', refuse)


def write_lock(folder, **values):
  content = {
    'host': 'other',
    'process': 7,
    'since': 'yesterday',
    'token': 'theirs',
  }
  (folder / 'lock').write_text(json.dumps(content | values))


def test_without_flock_a_renewed_lock_is_respected(
  without_flock, tmp_path, monkeypatch
):
  def renew(now):
    if now % 20 == 0:
      write_lock(tmp_path, renewed=now)

  clock = Clock(renew)
  monkeypatch.setattr(lock, 'time', clock)
  write_lock(tmp_path, renewed=0)
  with pytest.raises(lock.LockedError, match='process 7 on other, since yest'):
    lock.hold(epath.Path(tmp_path)).__enter__()
  assert clock.now == 20
  assert json.loads((tmp_path / 'lock').read_text())['token'] == 'theirs'


def test_without_flock_a_lock_that_is_not_renewed_is_stale(
  without_flock, tmp_path, monkeypatch, caplog
):
  clock = Clock()
  monkeypatch.setattr(lock, 'time', clock)
  write_lock(tmp_path)
  with lock.hold(epath.Path(tmp_path)):
    assert clock.now == 62
    assert json.loads((tmp_path / 'lock').read_text())['process'] == os.getpid()
  assert 'process 7 on other, since yesterday is stale' in caplog.text
  assert not (tmp_path / 'lock').exists()


def test_without_flock_a_dead_process_of_this_host_holds_nothing(
  without_flock, tmp_path, monkeypatch
):
  clock = Clock()
  monkeypatch.setattr(lock, 'time', clock)
  process = subprocess.Popen([sys.executable, '-c', ''])
  process.wait()
  here = lock._describe()
  write_lock(tmp_path, **here | {'process': process.pid})
  with lock.hold(epath.Path(tmp_path)):
    assert clock.now == 2


def test_without_flock_the_last_of_two_has_the_lock(
  without_flock, tmp_path, monkeypatch
):
  monkeypatch.setattr(lock, 'time', Clock(lambda now: write_lock(tmp_path)))
  with pytest.raises(lock.LockedError, match='process 7 on other'):
    lock.hold(epath.Path(tmp_path)).__enter__()
  assert json.loads((tmp_path / 'lock').read_text())['token'] == 'theirs'


def test_without_flock_the_lock_is_renewed(
  without_flock, tmp_path, monkeypatch, caplog
):
  monkeypatch.setattr(lock, '_RENEW_SECONDS', 0.01)
  monkeypatch.setattr(lock, '_SETTLE_SECONDS', 0)
  with lock.hold(epath.Path(tmp_path)):
    first = (tmp_path / 'lock').read_text()
    deadline = time.monotonic() + 10
    while (tmp_path / 'lock').read_text() in ('', first):
      assert time.monotonic() < deadline
      time.sleep(0.01)
    write_lock(tmp_path)  # Written in one piece, but renewals may follow it.
    while 'lost the lock' not in caplog.text:
      assert time.monotonic() < deadline
      write_lock(tmp_path)
      time.sleep(0.01)
  assert json.loads((tmp_path / 'lock').read_text())['token'] == 'theirs'


def test_a_folder_without_permission_is_not_locked(tmp_path, monkeypatch):
  def refuse(*unused):
    raise OSError(errno.EROFS, 'Read-only file system')

  monkeypatch.setattr(lock.os, 'open', refuse)
  with lock.hold(epath.Path(tmp_path)):
    pass
  assert not (tmp_path / 'lock').exists()
