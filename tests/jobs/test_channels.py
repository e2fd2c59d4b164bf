"""Gray images and images with alpha, from a folder to an export."""

import json

import numpy as np
from PIL import Image
import pytest

import runs
from vit_jax import checkpoints, main, models
import weights


@pytest.fixture(scope='module')
def rgb(tmp_path_factory):
  """Weights for RGB."""
  path = tmp_path_factory.mktemp('rgb') / 'rgb.npz'
  model = models.create('ViT-Ti/8', num_classes=3, **runs.SMALL)
  checkpoints.export(weights.random_params(model, (16, 16)), path)
  return path


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('photos')
  rng = np.random.default_rng(0)
  for k in range(12):
    path = folder / 'train' / 'ab'[k % 2] / f'{k}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (20, 18, 4), np.uint8)
    Image.fromarray(pixels).save(path)
  return folder


@pytest.mark.parametrize('channels', [1, 4])
def test_from_an_rgb_checkpoint_to_an_export(channels, rgb, photos, tmp_path):
  config = runs.override(
    runs.shrink(runs.load_config('finetune')),
    init_from=str(rgb),
    model__name='ViT-Ti/8',
    data__name=f'folder:{photos}',
    data__eval='',
    data__image_size=16,
    data__channels=channels,
    data__bits=16,
    optim__ema_decay=0.0,
  )
  runs.run(config, tmp_path / 'run')
  written = json.loads((tmp_path / 'run/config.json').read_text())
  assert written['data.channels'] == channels
  trained, found = checkpoints.load_with_description(tmp_path / 'run/final.npz')
  assert trained['embedding']['kernel'].shape == (8, 8, channels, 16)
  assert found.channels == channels

  # Prediction takes the channels and bits from the run.
  config = runs.load_config('predict')
  config.init_from = str(tmp_path / 'run/final.npz')
  config.predict.paths = (str(photos),)
  config.report.page = channels == 4
  main.run(config, tmp_path / 'predicted')
  lines = (tmp_path / 'predicted/predictions.jsonl').read_text().splitlines()
  lines = [json.loads(line) for line in lines]
  assert len(lines) == 12
  pixels = np.asarray(Image.open(lines[0]['example']), np.uint8)
  assert pixels.shape == (20, 18, 4)

  for target, format in (('vit', 'huggingface'), ('vit.safetensors', 'timm')):
    path = tmp_path / target
    checkpoints.export(
      trained, path, format=format, gelu=found.gelu, norm_eps=found.norm_eps
    )
    read, again = checkpoints.load_with_description(path)
    weights.assert_same(read, trained)
    assert again.sizes == found.sizes
  content = json.loads((tmp_path / 'vit/config.json').read_text())
  assert content['num_channels'] == channels
  content = json.loads((tmp_path / 'vit/preprocessor_config.json').read_text())
  assert content['image_mean'] == [0.5] * channels


def test_masked_patches_are_those_of_colours(tmp_path):
  config = runs.shrink(runs.load_config('masked_patch', 'digits'))
  config.data.channels = 1
  with pytest.raises(ValueError, match='data.channels=1, but masked patch'):
    main.run(config, tmp_path)
