"""NumPy archives: round trips, damage, and refused content."""

import os
import resource

from etils import epath
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import checkpoints
from vit_jax.checkpoints.formats import npz
import weights

ARRAYS = {
  'cls': np.arange(4, dtype='f4').reshape(1, 1, 4),
  'head/kernel': np.eye(4, dtype='f4'),
  'head/bias': np.ones(4, 'f4'),
}


def read(path):
  with npz.open_archive(epath.Path(path)) as archive:
    return dict(archive)


def write(path, arrays=ARRAYS):
  npz.write(arrays, epath.Path(path))


def test_round_trip(tmp_path):
  path = tmp_path / 'new' / 'folder' / 'params.npz'
  write(path)
  assert os.listdir(path.parent) == ['params.npz']
  weights.assert_same(read(path), ARRAYS)


def test_arrays_are_read_on_access(tmp_path):
  write(tmp_path / 'params.npz')
  with npz.open_archive(epath.Path(tmp_path / 'params.npz')) as archive:
    assert len(archive) == 3
    assert 'head/bias' in archive
    assert 'tail' not in archive
    archive['cls']
    assert archive.unread == ['head/kernel', 'head/bias']


def test_bfloat16_is_read_from_raw_bytes(tmp_path):
  values = np.array([1.5, -0.0, 3e38], jnp.bfloat16)
  np.savez(tmp_path / 'params.npz', scale=values)
  with np.load(tmp_path / 'params.npz') as archive:
    assert archive['scale'].dtype == np.dtype('V2')
  weights.assert_same(read(tmp_path / 'params.npz'), {'scale': values})


def test_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'params.npz'
  write(path)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
  try:
    with pytest.raises(OSError, match='too large'):
      write(path, ARRAYS | {'cls': np.zeros(1000)})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  weights.assert_same(read(path), ARRAYS)


@pytest.mark.parametrize('size', [0, 10, 200, 800])
def test_truncated_file_is_refused(tmp_path, size):
  path = tmp_path / 'params.npz'
  write(path)
  whole = path.read_bytes()
  assert len(whole) > 800
  path.write_bytes(whole[:size])
  with pytest.raises(ValueError, match=r'params\.npz: not a readable \.npz'):
    checkpoints.load(path)


def test_flipped_byte_is_reported_by_parameter(tmp_path):
  path = tmp_path / 'params.npz'
  write(path)
  damaged = bytearray(path.read_bytes())
  place = damaged.index(ARRAYS['head/kernel'].tobytes())
  damaged[place] ^= 1
  path.write_bytes(damaged)
  with pytest.raises(ValueError, match=r"params\.npz.*'head/kernel'.*CRC"):
    checkpoints.load(path)


def test_pickled_objects_are_refused(tmp_path):
  path = tmp_path / 'params.npz'
  np.savez(path, **{'head/bias': np.array([{}])}, cls=ARRAYS['cls'])
  with pytest.raises(
    ValueError, match=r"params\.npz.*'head/bias'.*pickled Python objects"
  ):
    checkpoints.load(path)


def test_single_array_is_refused(tmp_path):
  with (tmp_path / 'params.npz').open('wb') as file:
    np.save(file, ARRAYS['cls'])
  with pytest.raises(ValueError, match=r'params\.npz: a single array'):
    checkpoints.load(tmp_path / 'params.npz')


def test_other_content_is_refused(tmp_path):
  (tmp_path / 'params.npz').write_text('<html>404</html>')
  with pytest.raises(ValueError, match='not a readable'):
    checkpoints.load(tmp_path / 'params.npz')
