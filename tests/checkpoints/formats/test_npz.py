"""NumPy archives: round trips, damage, and refused content."""

import os
import resource
import struct
import zipfile

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
  with pytest.raises(
    ValueError, match=r'params\.npz: the file holds a single array'
  ):
    checkpoints.load(tmp_path / 'params.npz')


def test_other_content_is_refused(tmp_path):
  (tmp_path / 'params.npz').write_text('<html>404</html>')
  with pytest.raises(ValueError, match='not a readable'):
    checkpoints.load(tmp_path / 'params.npz')


def npy(header, data=bytes(16)):
  """Returns an .npy file with this text as its header."""
  return b'\x93NUMPY\1\0' + struct.pack('<H', len(header)) + header + data


def header_of(shape, dtype="'<f4'"):
  text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}\n"
  return text.encode()


@pytest.mark.parametrize(
  ('member', 'problem'),
  [
    (npy(header_of('(1000000000, 1000000000)')), '4,000,000,000,000,000,086 b'),
    (npy(header_of('(-4,)')), r'shape \(-4,\); expected at most'),
    (npy(header_of('(0, 4)')), 'none of them empty'),
    (npy(header_of('(True, 4)')), r'shape \(True, 4\)'),
    (npy(header_of('(4' + ', 1' * 99 + ')')), 'at most 8 axes'),
    (npy(header_of('(3,)')), 'takes 78 bytes, but the archive declares 82'),
    (npy(header_of('(4,)', "'|O'")), 'pickled Python objects'),
    (npy(header_of('(4,)', "[('a', '<f4')]")), 'expected floating-point'),
    (npy(header_of('(4,)', "'<i4'")), 'of type int32; expected floating-point'),
    (npy(header_of('(4,)') + b' ' * 20000), 'cannot be read .EOF'),
    (npy(b'('), 'cannot be read'),
    (b'', 'cannot be read'),
  ],
)
def test_invalid_headers_are_refused(tmp_path, member, problem):
  path = tmp_path / 'params.npz'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('cls.npy', member)
  with pytest.raises(ValueError, match=rf"npz: .*'cls'.*{problem}") as caught:
    checkpoints.load(path)
  assert 'allow_pickle' not in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('offset', 'value', 'problem'),
  [
    (8, 1, 'is encrypted'),
    (10, 99, 'is compressed by method 99; expected np.savez'),
    (24, 2**31 - 1, 'declares 2,147,483,647 bytes, more than the file'),
  ],
)
def test_unusual_zip_fields_are_refused(tmp_path, offset, value, problem):
  path = tmp_path / 'params.npz'
  write(path)
  data = bytearray(path.read_bytes())
  form = '<I' if offset == 24 else '<H'
  struct.pack_into(form, data, data.index(b'PK\1\2') + offset, value)
  path.write_bytes(data)
  with pytest.raises(ValueError, match=rf"npz: .*'cls' {problem}"):
    checkpoints.load(path)


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_repeated_members_are_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / 'params.npz', 'w') as archive:
    for _ in range(2):
      archive.writestr('cls.npy', npy(header_of('(4,)')))
  with pytest.raises(ValueError, match="'cls' occurs 2 times; expected one"):
    checkpoints.load(tmp_path / 'params.npz')


def test_byte_orders_and_layouts_are_read(tmp_path):
  kernel = np.arange(6, dtype='f4').reshape(2, 3)
  path = tmp_path / 'params.npz'
  np.savez(path, a=kernel.astype('>f4'), b=np.asfortranarray(kernel))
  for array in read(path).values():
    np.testing.assert_array_equal(array, kernel)


def test_placeholders_have_the_shapes_without_the_data(tmp_path):
  path = tmp_path / 'params.npz'
  kernel = np.ones((60, 60), 'f4')
  write(path, ARRAYS | {'head/kernel': kernel})
  data = bytearray(path.read_bytes())
  data[data.index(kernel.tobytes()) + kernel.nbytes - 1] ^= 1
  path.write_bytes(data)
  with npz.open_archive(epath.Path(path)) as archive:
    assert archive.placeholders()['head/kernel'].shape == (60, 60)
    assert archive.unread == list(ARRAYS)
    with pytest.raises(ValueError, match='CRC'):
      archive['head/kernel']
