"""Agreement with recorded outputs of big_vision, timm and the official code."""

import json
import pathlib

import jax
import numpy as np
import pytest

from vit_jax import checkpoints, models
from vit_jax.checkpoints import position_tables

GOLDENS = pathlib.Path(__file__).resolve().parents[3] / 'shared' / 'goldens'
pytestmark = pytest.mark.skipif(
  not GOLDENS.exists(), reason='needs the recorded numbers'
)


def error_of(output, expected):
  return np.linalg.norm(output - expected) / np.linalg.norm(expected)


def loaded_model(name, path, **options):
  params, description = checkpoints.load_with_description(path, **options)
  model = models.create(
    name, num_classes=description.num_classes, **description.overrides
  )
  return model, params


@pytest.mark.parametrize('name', ['bv_vit_tok', 'bv_vit_gap_scan'])
def test_big_vision(name):
  numbers = np.load(GOLDENS / f'{name}.io.npz')
  model, params = loaded_model('ViT-B/16', GOLDENS / f'{name}.ckpt.npz')
  logits, features = jax.jit(model.apply)({'params': params}, numbers['image'])
  assert error_of(logits, numbers['logits']) < 1e-5
  assert error_of(features['encoded'], numbers['encoded']) < 1e-5
  if 'pre_logits' in numbers:
    assert error_of(features['pre_logits'], numbers['pre_logits']) < 1e-5
  image_size = json.loads((GOLDENS / f'{name}.json').read_text())['image']
  adapted, report = checkpoints.adapt(params, model, image_size, head='keep')
  assert {row.status for row in report.rows} == {'loaded'}
  jax.tree.map(np.testing.assert_array_equal, adapted, params)


def test_timm():
  pytest.importorskip('safetensors')
  numbers = np.load(GOLDENS / 'timm_vit.io.npz')
  model, params = loaded_model(
    'ViT-B/16', GOLDENS / 'timm_vit.safetensors', heads=4
  )
  assert model.gelu == 'erf'
  logits, features = jax.jit(model.apply)({'params': params}, numbers['image'])
  assert error_of(logits, numbers['logits']) < 1e-5
  assert error_of(features['encoded'], numbers['encoded']) < 1e-5


def test_resized_positions():
  numbers = np.load(GOLDENS / 'posembed_interpolation.npz')
  names = [name for name in numbers if name.endswith('_in')]
  assert len(names) == 7
  for name in names:
    kind, old, new, _ = name.split('_')
    resized = position_tables.resize_grid(
      numbers[name],
      (int(old), int(old)),
      (int(new), int(new)),
      class_slot=kind == 'token',
    )
    expected = numbers[name.replace('_in', '_out')]
    np.testing.assert_allclose(resized, expected, rtol=1e-5, atol=1e-6)
