"""Official .npz files: names, round trips and damage."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from vit_jax import checkpoints
from vit_jax.checkpoints import npz

PARAMS = {
  'cls': np.arange(4, dtype='f4').reshape(1, 1, 4),
  'head': {'kernel': np.eye(4, dtype='f4'), 'bias': np.ones(4, 'f4')},
}


def assert_same(tree, expected):
  assert set(tree) == set(expected)
  for name, value in expected.items():
    if isinstance(value, dict):
      assert_same(tree[name], value)
    else:
      np.testing.assert_array_equal(tree[name], value, strict=True)


def test_round_trip(tmp_path):
  path = tmp_path / 'new' / 'folder' / 'params.npz'
  checkpoints.export(PARAMS, path)
  assert os.listdir(path.parent) == ['params.npz']
  with np.load(path) as archive:
    assert set(archive.files) == {'cls', 'head/kernel', 'head/bias'}
  assert_same(checkpoints.load(str(path)), PARAMS)


def test_published_names_become_linen_names():
  block = {
    'LayerNorm_0': 'first norm',
    'MultiHeadDotProductAttention_1': {'query': 'q'},
    'LayerNorm_2': 'second norm',
    'MlpBlock_3': {'Dense_0': 'in', 'Dense_1': 'out'},
  }
  linen = {
    'LayerNorm_0': 'first norm',
    'MultiHeadDotProductAttention_0': {'query': 'q'},
    'LayerNorm_1': 'second norm',
    'MlpBlock_0': {'Dense_0': 'in', 'Dense_1': 'out'},
  }
  # Eleven blocks: 10 comes after 2 and 9, though not in the alphabet.
  old = {f'encoderblock_{i}': block for i in range(11)}
  new = {f'encoderblock_{i}': linen for i in range(11)}
  assert npz.linen_names({'Transformer': old}) == {'Transformer': new}
  assert npz.linen_names({'Transformer': new}) == {'Transformer': new}


def test_parts_are_numbered_in_natural_order():
  renamed = npz.linen_names({'Norm_10': 'c', 'Norm_9': 'b', 'Norm_2': 'a'})
  assert renamed == {'Norm_0': 'a', 'Norm_1': 'b', 'Norm_2': 'c'}


def test_a_save_that_runs_out_of_space_leaves_the_old_file(tmp_path):
  path = tmp_path / 'params.npz'
  npz.save(PARAMS, path)
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
  try:
    with pytest.raises(OSError, match='too large'):
      npz.save(PARAMS | {'cls': np.zeros(1000)}, path)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert_same(npz.load(path), PARAMS)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match=r'absent\.npz: no such file'):
    npz.load(tmp_path / 'absent.npz')


@pytest.mark.parametrize('size', [0, 10, 200, 800])
def test_a_file_cut_short_is_named(tmp_path, size):
  path = tmp_path / 'params.npz'
  npz.save(PARAMS, path)
  whole = path.read_bytes()
  assert len(whole) > 800
  path.write_bytes(whole[:size])
  with pytest.raises(ValueError, match=r'params\.npz is not a readable'):
    npz.load(path)


def test_a_flipped_byte_is_laid_to_its_parameter(tmp_path):
  path = tmp_path / 'params.npz'
  npz.save(PARAMS, path)
  damaged = bytearray(path.read_bytes())
  place = damaged.index(PARAMS['head']['kernel'].tobytes())
  damaged[place] ^= 1
  path.write_bytes(damaged)
  with pytest.raises(ValueError, match=r"params\.npz.*'head/kernel'.*CRC"):
    npz.load(path)


def test_pickled_objects_are_refused(tmp_path):
  path = tmp_path / 'params.npz'
  np.savez(path, **{'head/bias': np.array([{}])}, cls=PARAMS['cls'])
  with pytest.raises(ValueError, match=r"params\.npz.*'head/bias'.*Object"):
    npz.load(path)


def test_other_formats_under_the_name_are_refused(tmp_path):
  path = tmp_path / 'params.npz'
  with path.open('wb') as file:
    np.save(file, PARAMS['cls'])
  with pytest.raises(ValueError, match='single array'):
    npz.load(path)
  path.write_text('<html>404</html>')
  with pytest.raises(ValueError, match='not a readable'):
    npz.load(path)


def test_unknown_endings_are_told_the_known_ones(tmp_path):
  with pytest.raises(ValueError, match=r"params\.h5.*'\.h5'.*known.*\.npz"):
    checkpoints.load(tmp_path / 'params.h5')
  with pytest.raises(ValueError, match=r"params.*''.*known.*\.npz"):
    checkpoints.export(PARAMS, tmp_path / 'params')


def test_models_and_checkpoints_need_no_tensorflow():
  code = (
    'import sys; from vit_jax import checkpoints, models;'
    "print({'tensorflow', 'clu', 'jax'} & set(sys.modules))"
  )
  output = subprocess.check_output([sys.executable, '-c', code], text=True)
  assert output.strip() == "{'jax'}"
