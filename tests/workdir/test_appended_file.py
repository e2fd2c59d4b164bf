"""Files that grow survive failed writes."""

import contextlib
import resource

from etils import epath
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

from vit_jax.checkpoints import backlog
from vit_jax.workdir import appended_file, event_file, metrics


@contextlib.contextmanager
def largest_file(size_bytes):
  """The kernel cuts off files at this size, as on a full disk."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_remains_of_a_failed_write_are_removed(tmp_path, caplog):
  path = epath.Path(tmp_path) / 'lines'
  with backlog.keeping():
    file = appended_file.AppendedFile(path)
    file.append(b'one\n')
    with largest_file(6):
      file.append(b'two\n')
      assert path.read_bytes() == b'one\ntw'
      file.append(b'three\n')
    assert path.read_bytes() == b'one\ntw'
    file.append(b'four\n')
    assert path.read_bytes() == b'one\ntwo\nthree\nfour\n'
    with largest_file(20):
      file.append(b'five\n')
  assert path.read_bytes() == b'one\ntwo\nthree\nfour\nfive\n'
  assert len(caplog.messages) == 2  # One for each time.
  assert '/lines could not be written: File too large.' in caplog.text
  assert 'It takes 4 bytes' in caplog.text


def test_the_first_content_is_written_later_too(tmp_path):
  path = epath.Path(tmp_path) / 'lines'
  path.write_text('an earlier run\n')
  with backlog.keeping():
    with largest_file(2):
      file = appended_file.AppendedFile(path, b'first\n')
      file.append(b'second\n')
    assert path.read_text() == 'an earlier run\n'
    file.append(b'third\n')
    assert path.read_text() == 'first\nsecond\nthird\n'


def test_the_same_content_is_left_untouched(tmp_path):
  path = epath.Path(tmp_path) / 'lines'
  path.write_text('first\n')
  with largest_file(0):
    file = appended_file.AppendedFile(path, b'first\n')
  file.append(b'second\n')
  assert path.read_text() == 'first\nsecond\n'


def test_writes_may_wait(tmp_path, monkeypatch):
  now = 0.0
  monkeypatch.setattr(appended_file.time, 'monotonic', lambda: now)
  path = epath.Path(tmp_path) / 'lines'
  with backlog.keeping():
    file = appended_file.AppendedFile(path, seconds_between_writes=30)
    for now in (29.0, 30.0, 50.0):
      file.append(b'%d\n' % now)
    assert path.read_bytes() == b'29\n30\n'
    backlog.flush()
    assert path.read_bytes() == b'29\n30\n50\n'
    file.append(b'end\n')
  assert path.read_bytes() == b'29\n30\n50\nend\n'


def test_metrics_and_events_survive_a_full_disk(tmp_path):
  folders = {name: epath.Path(tmp_path) / name for name in ('full', 'empty')}
  for name, folder in folders.items():
    folder.mkdir()
    with backlog.keeping():
      log = metrics.MetricLog(folder, resume_step=0)
      for step in range(1, 40):
        limit = largest_file(600) if name == 'full' and 9 < step < 20 else None
        with limit or contextlib.nullcontext():
          log.write(step, {'train/loss': 1 / step, 'test/accuracy': 0.5})
          with contextlib.suppress(backlog.WriteError):
            backlog.flush()
  text = (folders['empty'] / 'metrics.jsonl').read_text()
  assert (folders['full'] / 'metrics.jsonl').read_text() == text
  events = event_accumulator.EventAccumulator(
    str(folders['full']), size_guidance={'tensors': 0}
  )
  events.Reload()
  assert [e.step for e in events.Tensors('train/loss')] == [*range(1, 40)]


def test_tensorboard_reads_the_events(tmp_path):
  picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
  file = event_file.EventFile(epath.Path(tmp_path))
  file.write_scalars(3, {'train/loss': 0.25})
  file.write_picture(7, 'patches', picture)
  events = event_accumulator.EventAccumulator(str(tmp_path))
  events.Reload()
  (loss,) = events.Tensors('train/loss')
  assert (loss.step, loss.tensor_proto.float_val) == (3, [0.25])
  (shown,) = events.Tensors('patches')
  assert shown.step == 7
  assert shown.tensor_proto.string_val[:2] == [b'4', b'2']


def test_without_room_the_log_ends_with_an_error(tmp_path):
  with (
    pytest.raises(backlog.WriteError, match=r'events.* could not be written'),
    largest_file(10),
    backlog.keeping(),
  ):
    log = metrics.MetricLog(epath.Path(tmp_path), resume_step=0)
    log.write(1, {'train/loss': 1.0})
