"""Safetensors files: round trips, and damaged headers."""

import json

from etils import epath
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import checkpoints
from vit_jax.checkpoints.formats import safetensors_file
import weights

ARRAYS = {
  'b': np.arange(6, dtype='f4').reshape(2, 3),
  'a': np.array([1.5, -0.0, 3e38], jnp.bfloat16),
}


def entry(begin, end, *shape, dtype='F32'):
  return {'dtype': dtype, 'shape': shape, 'data_offsets': [begin, end]}


def write(path, header, data):
  text = header if isinstance(header, str) else json.dumps(header)
  path.write_bytes(len(text).to_bytes(8, 'little') + text.encode() + data)


def test_round_trip(tmp_path):
  pytest.importorskip('safetensors')
  path = epath.Path(tmp_path / 'x.safetensors')
  safetensors_file.write(ARRAYS, {'heads': '3'}, path)
  with safetensors_file.open_file(path) as (arrays, metadata):
    assert list(arrays) == ['a', 'b']
    assert arrays.placeholders()['b'].shape == (2, 3)
    assert arrays.unread == ['a', 'b']
    weights.assert_same(dict(arrays), ARRAYS)
  assert metadata == {'format': 'pt', 'heads': '3'}


@pytest.mark.parametrize(
  ('header', 'problem'),
  [
    ('', 'declares 0 bytes, but the file has 24'),
    ('[]', 'not a JSON object'),
    ('{"a": ', 'Expecting value'),
    ('[' * 100_000, 'maximum recursion depth'),
    ({'a': entry(0, 16, 4), '__metadata__': {'x': 3}}, 'object of strings'),
    ({'a': entry(0, 16, -4)}, "'a' lacks"),
    ({'a': {'dtype': 'F32'}}, "'a' lacks"),
    ({'a': entry(0, 16, 10**9, 10**9)}, 'takes 4,000,000,000,000,000,000 byt'),
    ({'a': entry(0, 99, 4)}, "'a' are at bytes 0 to 99 of 16"),
    ({'a': entry(4, 16, 3)}, 'expected them to start at 0'),
    ({'a': entry(0, 16, 4), 'b': entry(8, 16, 2)}, 'to start at 16'),
    ({'a': entry(0, 8, 2)}, 'end at byte 8 of 16'),
    (
      f'{{"a": {json.dumps(entry(0, 16, 4))}, "a": {{}}}}',
      "'a' occurs twice in the header",
    ),
  ],
)
def test_invalid_headers_are_refused(tmp_path, header, problem):
  path = tmp_path / 'x.safetensors'
  write(path, header, bytes(16))
  expected = rf'safetensors: not a readable .safetensors file \(.*{problem}'
  with pytest.raises(ValueError, match=expected):
    checkpoints.load(path)


def test_header_beyond_the_file_is_refused(tmp_path):
  path = tmp_path / 'x.safetensors'
  path.write_bytes((2**63).to_bytes(8, 'little') + b'{}')
  with pytest.raises(ValueError, match='9,223,372,036,854,775,808 bytes, but'):
    checkpoints.load(path)
