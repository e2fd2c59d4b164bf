"""The choice of a format for export, and models that a format cannot hold."""

import os

import numpy as np
import pytest

from vit_jax import checkpoints
import weights

PARAMS = {'head': {'kernel': np.eye(4, dtype='f4')}}


def test_official_format_holds_every_parameter(tmp_path):
  model = weights.tiny(representation_size=5)
  params = weights.random_params(model) | {'mask_token': np.ones((1, 12), 'f4')}
  checkpoints.export(params, tmp_path / 'new' / 'params.npz')
  assert os.listdir(tmp_path / 'new') == ['params.npz']
  weights.assert_same(checkpoints.load(tmp_path / 'new/params.npz'), params)


@pytest.mark.parametrize(
  'name, format, message',
  [
    ('params', None, r"params.*''.*known.*'official' \(\.npz\).*'huggingface'"),
    ('params.h5', None, r"params\.h5.*'\.h5' does not determine a format"),
    ('params.npz', 'tf', r"unknown format 'tf'; known.*'big_vision'"),
    ('params.bin', 'timm', r'timm format writes a file ending in \.saf'),
    ('params.npz', 'huggingface', 'huggingface format writes a folder'),
  ],
)
def test_mismatched_formats_are_refused(tmp_path, name, format, message):
  with pytest.raises(ValueError, match=message):
    checkpoints.export(PARAMS, tmp_path / name, format=format)
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize('format', ['official', 'big_vision'])
@pytest.mark.parametrize(
  'setting, value',
  [('gelu', 'erf'), ('norm_eps', 1e-12), ('class_names', ['a', 'b'])],
)
def test_settings_are_only_lost_on_request(tmp_path, format, setting, value):
  path = tmp_path / 'params.npz'
  with pytest.raises(ValueError, match=rf"cannot store {setting}=.*drop=\('"):
    checkpoints.export(PARAMS, path, format=format, **{setting: value})
  assert not path.exists()
  checkpoints.export(
    PARAMS, path, format=format, drop=(setting,), **{setting: value}
  )
  weights.assert_same(checkpoints.load(path), PARAMS)


def test_unknown_options_are_refused(tmp_path):
  path = tmp_path / 'params.npz'
  with pytest.raises(ValueError, match="drop contains 'pre_logit'.*has head"):
    checkpoints.export(PARAMS, path, drop=('pre_logit',))
  with pytest.raises(
    ValueError, match="unknown gelu 'exact'; known: tanh, erf"
  ):
    checkpoints.export(PARAMS, path, gelu='exact')


@pytest.mark.parametrize(
  ('options', 'format', 'message'),
  [
    ({'positions': 'sincos2d'}, 'official', "store positions='sincos2d'"),
    (
      {'pool': 'gap', 'class_token': True},
      'official',
      "store pool='gap'.*drop=.'pool'",
    ),
    ({'pool': 'gap', 'class_token': True}, 'huggingface', "store pool='gap'"),
    ({'pool': 'map'}, 'huggingface', "store pool='map'"),
    (
      {'registers': 2},
      'huggingface',
      'mlp_dim that is a multiple of the width',
    ),
    ({'registers': 2}, 'big_vision', 'store registers=2'),
    (
      {'pool': 'map', 'class_token': True},
      'big_vision',
      'store class_token=True',
    ),
    ({'pool': 'gap_norm'}, 'big_vision', "store pool='gap_norm'"),
  ],
)
def test_options_that_a_format_cannot_store(tmp_path, options, format, message):
  params = weights.random_params(weights.tiny(**options))
  path = tmp_path / ('folder' if format == 'huggingface' else 'params.npz')
  hidden = {k: v for k, v in options.items() if k in ('positions', 'pool')}
  with pytest.raises(ValueError, match=message):
    checkpoints.export(
      params, path, format=format, image_size=weights.IMAGE_SIZE, **hidden
    )
  assert not path.exists()
