"""LayerScale of timm and Hugging Face, folded into the layers before it."""

import logging

import numpy as np
import pytest

from vit_jax import checkpoints
from vit_jax.checkpoints.formats import huggingface, official, timm
import weights

safetensors = pytest.importorskip('safetensors.numpy')

FORMATS = {'timm': timm, 'huggingface': huggingface}
NAMES = {
  'timm': 'blocks.{}.ls{}.gamma',
  'huggingface': 'vit.encoder.layer.{}.layer_scale{}.lambda1',
}
ATTENTION = 'Transformer/encoderblock_{}/MultiHeadDotProductAttention_0/out'
MLP = 'Transformer/encoderblock_{}/MlpBlock_0/Dense_1'


def scales():
  """Returns the vectors of two blocks, for attention and for the MLP."""
  return np.random.default_rng(1).normal(size=(2, 2, 12)).astype('f4')


def save(folder, format, dtype='f4', changes=()):
  params = weights.random_params(weights.tiny())
  tensors = FORMATS[format].to_tensors(params)
  for block, of_block in enumerate(scales()):
    for i, scale in enumerate(of_block):
      tensors[NAMES[format].format(block, i + 1)] = scale
  tensors |= changes
  tensors = {k: np.ascontiguousarray(v, dtype) for k, v in tensors.items()}
  safetensors.save_file(tensors, folder / 'model.safetensors')
  return params


@pytest.mark.parametrize('format', FORMATS)
@pytest.mark.parametrize('dtype', ['f4', 'f2'])
def test_folding_by_hand(tmp_path, caplog, format, dtype):
  params = official.flatten(save(tmp_path, format, dtype))
  with caplog.at_level(logging.INFO, logger='vit_jax.checkpoints.loading'):
    loaded = official.flatten(checkpoints.load(tmp_path, heads=3))
  assert 'LayerScale folded into the layers before it' in caplog.messages[-1]
  expected = {k: v.astype(dtype) for k, v in params.items()}
  for block, of_block in enumerate(scales()):
    for layer, scale in zip((ATTENTION, MLP), of_block, strict=True):
      for leaf in ('kernel', 'bias'):
        name = f'{layer.format(block)}/{leaf}'
        wide = scale.astype(dtype).astype('f8')
        expected[name] = expected[name].astype('f8') * wide  # Outputs last.
  expected = {k: v.astype('f4') for k, v in expected.items()}
  weights.assert_same(official.unflatten(loaded), official.unflatten(expected))


@pytest.mark.parametrize(
  ('scale', 'message'),
  [
    (np.ones(11), r'LayerScale_0/scale.* \(11,\); expected an axis of length'),
    (np.full(12, 1e38), r"block_1/.*/out/kernel' is not finite in float32"),
  ],
)
def test_damaged_scales_are_refused(tmp_path, scale, message):
  name = NAMES['timm'].format(1, 1)
  kernel = 'blocks.1.attn.proj.weight'
  save(tmp_path, 'timm', changes={name: scale, kernel: np.full((12, 12), 10)})
  with pytest.raises(ValueError, match=message):
    checkpoints.load(tmp_path, heads=3)


def test_a_missing_scale_is_refused(tmp_path):
  params = weights.random_params(weights.tiny())
  tensors = timm.to_tensors(params) | {'blocks.1.ls1.gamma': np.ones(12, 'f4')}
  tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
  safetensors.save_file(tensors, tmp_path / 'model.safetensors')
  with pytest.raises(ValueError, match='block_0/LayerScale_0/scale.* missing'):
    checkpoints.load(tmp_path, heads=3)
