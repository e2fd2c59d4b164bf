"""Exports: what other programs compute from them, and what is refused."""

import json
import sys

import numpy as np
import pytest

import exported
from vit_jax import checkpoints
from vit_jax.runtimes import RUNTIMES
import weights


@pytest.fixture(scope='module')
def token(tmp_path_factory):
  folder = tmp_path_factory.mktemp('token')
  return folder, *exported.make('token', folder)


def images(count, size=(16, 24)):
  rng = np.random.default_rng(1)
  return rng.uniform(-1, 1, (count, *size, 3)).astype('f4')


def expected(model, params, batch):
  one, seven = (weights.logits_of(model, params, batch[:n]) for n in (1, 7))
  return np.concatenate([one, seven])


def test_stablehlo_runs_with_only_jax(token, tmp_path):
  source, model, params = token
  results = exported.export(source, 'stablehlo', tmp_path / 'run')
  assert results['metrics']['export/largest_difference'] < 1e-5
  assert results['runtime'].startswith('jax ')
  path = tmp_path / 'run/model.stablehlo'
  assert results['metrics']['export/bytes'] == path.stat().st_size
  batch = images(7)
  found = exported.run_elsewhere(
    exported.RUN_JAX, path, batch, tmp_path, ('tensorflow',)
  )
  want = expected(model, params, batch)
  assert want.std() > 0.1
  np.testing.assert_allclose(found, want, rtol=0, atol=1e-5)
  described = json.loads((tmp_path / 'run/model.json').read_text())
  assert described['class_names'] == list(exported.NAMES)
  assert described['input']['shape'] == [None, 16, 24, 3]
  assert described['preprocessing']['crop'] == 'resize'


def test_saved_model_of_pixels(token, tmp_path):
  results = exported.export(
    token[0], 'saved_model', tmp_path, export__input='pixels'
  )
  assert results['runtime'].startswith('tensorflow ')
  assert 0 < results['metrics']['export/largest_difference'] < 1e-5
  described = json.loads((tmp_path / 'model.json').read_text())
  assert described['input']['dtype'] == 'uint8'
  assert described['input']['range'] == [0, 255]


@pytest.mark.parametrize('format', ['npz', 'big_vision', 'timm'])
def test_weight_files_are_loaded_again(token, tmp_path, format, monkeypatch):
  source, _, params = token
  if format == 'timm':
    pytest.importorskip('safetensors')
    monkeypatch.setitem(sys.modules, 'timm', None)
  results = exported.export(source, format, tmp_path)
  assert results['runtime'] == 'vit_jax'
  written = {path.name for path in tmp_path.iterdir()}
  assert RUNTIMES[format].file in written
  assert not [name for name in written if name.startswith('unchecked')]
  again, found = checkpoints.load_with_description(
    tmp_path / RUNTIMES[format].file
  )
  if format != 'big_vision':  # It adds the position of the class token to it.
    weights.assert_same(again, params)
    assert found.class_names == exported.NAMES


def test_a_file_that_disagrees_is_removed(token, tmp_path, monkeypatch):
  def load(network, path):
    assert path.exists()
    return lambda batch: np.full((len(batch), 4), np.nan, 'f4'), 'other 1.0'

  broken = RUNTIMES['stablehlo'].__class__(
    'model.stablehlo', lambda network, path: path.write_bytes(b'x'), load
  )
  monkeypatch.setitem(RUNTIMES, 'stablehlo', broken)
  with pytest.raises(ValueError, match='by other 1.0.*differ by up to nan'):
    exported.export(token[0], 'stablehlo', tmp_path)
  names = {path.name for path in tmp_path.iterdir()}
  assert not any('stablehlo' in name for name in names)
  assert 'results.json' not in names


@pytest.mark.parametrize(
  ('format', 'values', 'message'),
  [
    ('npz', {'export__input': 'pixels'}, 'export.input=pixels has no effect'),
    ('timm', {'export__batch_size': 2}, 'export.batch_size=2 has no effect'),
    ('onnx', {'model__dtype': 'bfloat16'}, 'leave model.dtype at float32'),
    ('onnx', {'export__images': '/nowhere'}, "'/nowhere' does not exist"),
  ],
)
def test_keys_that_do_not_apply(token, tmp_path, format, values, message):
  with pytest.raises(ValueError, match=message):
    exported.export(token[0], format, tmp_path / 'run', **values)
  assert not (tmp_path / 'run/config.json').exists()


def test_unknown_formats_are_refused(token):
  with pytest.raises(ValueError, match="export.format='onx'.*saved_model"):
    exported.export(token[0], 'onx', '/nowhere')


def test_settings_that_a_format_cannot_store(tmp_path):
  exported.make('gap', tmp_path)
  with pytest.raises(ValueError, match="cannot store gelu='erf'"):
    exported.export(tmp_path, 'big_vision', tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_missing_converter(token, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'jax2onnx', None)
  with pytest.raises(ValueError, match='run `pip install onnx .*no-deps jax2'):
    exported.export(token[0], 'onnx', tmp_path)
  assert not list(tmp_path.iterdir())
