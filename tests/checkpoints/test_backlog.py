"""A run keeps what it cannot write; nothing else does."""

import errno
import logging

from etils import epath
import pytest

from vit_jax.checkpoints import atomic, backlog


@pytest.fixture
def disk(monkeypatch):
  """A list of the files whose replacement fails."""
  full = set()
  replace = atomic.replace

  def fail_or_replace(path, data):
    if path.name in full:
      raise OSError(errno.ENOSPC, 'No space left on device')
    replace(path, data)

  monkeypatch.setattr(atomic, 'replace', fail_or_replace)
  return full


def test_outside_of_a_run_a_failure_is_raised(disk, tmp_path):
  path = epath.Path(tmp_path) / 'a.json'
  disk.add('a.json')
  with pytest.raises(backlog.WriteError) as error:
    atomic.write_bytes(path, bytes(12_345))
  message = str(error.value)
  assert message.startswith(
    f'{path} could not be written: No space left on device. It takes 12,345'
    ' bytes, and '
  )
  assert message.endswith(' are free there.')
  disk.clear()
  backlog.flush()  # Nothing was kept.
  assert not path.exists()


def test_a_run_writes_again_and_warns_once(disk, tmp_path, caplog):
  caplog.set_level(logging.INFO, logger='vit_jax')
  folder = epath.Path(tmp_path)
  with backlog.keeping():
    disk.update(['a', 'b'])
    for content in (b'1', b'2'):
      atomic.write_bytes(folder / 'a', content)
    atomic.write_bytes(folder / 'b', b'3')
    atomic.write_bytes(folder / 'c', b'4')
    disk.remove('b')
    with pytest.raises(backlog.WriteError, match='/a could not be written'):
      backlog.flush()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['b', 'c']
    atomic.write_bytes(folder / 'a', b'5')
    disk.clear()
  assert (folder / 'a').read_bytes() == b'5'
  warnings = [r for r in caplog.records if r.levelname == 'WARNING']
  assert [w.getMessage().split(' could')[0] for w in warnings] == [
    str(folder / 'a'),
    str(folder / 'b'),
  ]
  assert caplog.messages[2:] == [
    f'{folder / name} can be written again' for name in 'ba'
  ]


def test_the_end_of_a_run_needs_room(disk, tmp_path):
  disk.add('a')
  with (
    pytest.raises(backlog.WriteError, match='/a could not be written'),
    backlog.keeping(),
  ):
    atomic.write_bytes(epath.Path(tmp_path) / 'a', b'1')
  backlog.flush()  # The next run starts with nothing.


def test_an_error_of_the_run_comes_first(disk, tmp_path):
  disk.add('a')
  folder = epath.Path(tmp_path)
  with pytest.raises(ZeroDivisionError), backlog.keeping():
    atomic.write_bytes(folder / 'a', b'1')
    backlog.keep(folder / 'b', 1, lambda: (folder / 'b').write_bytes(b'2'))
    assert not (folder / 'b').exists()
    _ = 1 / 0
  assert (folder / 'b').read_bytes() == b'2'


def test_memory_is_bounded(disk, tmp_path, monkeypatch):
  monkeypatch.setattr(backlog, '_MOST_FILES', 2)
  disk.update('abc')
  folder = epath.Path(tmp_path)
  with (
    pytest.raises(backlog.WriteError, match='/c could not be written'),
    backlog.keeping(),
  ):
    for name in 'abc':
      atomic.write_bytes(folder / name, b'1')


def test_a_long_outage_is_repeated(monkeypatch, caplog):
  caplog.set_level(logging.INFO, logger='vit_jax')
  now = 0.0
  monkeypatch.setattr(backlog.time, 'monotonic', lambda: now)
  outage = backlog.Outage()
  outage.succeeded('never failed')
  for now in (0.0, 10.0, 599.0, 600.0, 700.0):
    outage.failed(f'failed at {now:g}')
  outage.succeeded('over')
  outage.failed('another')
  assert caplog.messages == ['failed at 0', 'failed at 600', 'over', 'another']
