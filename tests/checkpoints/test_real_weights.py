"""A trained DINOv2 of Hugging Face, with the output of another library.

Skipped without the folder `shared/weights` beside the checkout.
"""

import pathlib

import numpy as np
import pytest

import vit_jax
from vit_jax import checkpoints
import weights

FOLDER = (
  pathlib.Path(__file__).resolve().parents[3] / 'shared/weights/dinov2_s14'
)
pytestmark = pytest.mark.skipif(
  not FOLDER.exists(), reason='needs the real weights'
)


@pytest.fixture(scope='module')
def loaded():
  return checkpoints.load_with_description(FOLDER)


def test_description(loaded):
  _, found = loaded
  assert found.overrides == {
    'depth': 12,
    'width': 384,
    'mlp_dim': 1536,
    'heads': 6,
    'patch_size': (14, 14),
    'pool': 'token',
    'gelu': 'erf',
    'norm_eps': 1e-6,
  }
  assert (found.num_classes, found.image_size) == (0, (518, 518))
  assert found.ignored == ('embeddings.mask_token',)
  assert str(found.evaluation) == (
    'center from 256x256 to 224x224 (bicubic_antialias)'
  )


def test_tokens_agree_with_another_library():
  model = vit_jax.load(FOLDER, keys={'data.image_size': 518})
  with np.load(FOLDER / 'golden.npz') as golden:
    pixels, expected = golden['pixels'][:1], golden['encoded'][:1]
  images = pixels.astype('f4') / 127.5 - 1
  features = model.features(images, ['class_token', 'patch_tokens'])
  patches = features['patch_tokens'].reshape(1, -1, model.model.width)
  encoded = np.concatenate([features['class_token'][:, None], patches], axis=1)
  error = np.linalg.norm(encoded - expected)
  assert error < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize('format', ['timm', 'huggingface', 'official'])
def test_round_trips_are_exact(tmp_path, loaded, format):
  params, found = loaded
  suffix = {'timm': '.safetensors', 'official': '.npz'}.get(format, '')
  path = tmp_path / f'weights{suffix}'
  checkpoints.export(
    params,
    path,
    format=format,
    gelu=found.gelu,
    evaluation=found.evaluation,
    drop=('gelu', 'evaluation') if format == 'official' else (),
  )
  weights.assert_same(checkpoints.load(path), params)
