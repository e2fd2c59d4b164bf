"""Exchange of Vision Transformers with timm, with random weights."""

import importlib.util
import json
import sys

import jax
import numpy as np
import pytest

import runs
from vit_jax import checkpoints, models
import weights

torch = pytest.importorskip('torch')
safetensors_torch = pytest.importorskip('safetensors.torch')

SIDE = 24  # 3x3 patches.
SIZES = {
  'img_size': SIDE,
  'patch_size': 8,
  'embed_dim': 16,
  'depth': 1,
  'num_heads': 4,
  'mlp_ratio': 2,
  'num_classes': 5,
}
MODELS = {
  'norm after mean': {'global_pool': 'avg'},
  'mean, with class token': {'global_pool': 'avg', 'fc_norm': False},
  'attention': {'global_pool': 'map'},
  'attention, no class token': {'global_pool': 'map', 'class_token': False},
  'registers': {'reg_tokens': 2, 'global_pool': 'avg'},
  'registers without positions': {'reg_tokens': 4, 'no_embed_class': True},
}


@pytest.fixture(scope='module')
def create():
  """A function that creates timm's module with random weights."""
  pytest.importorskip('timm')
  path = runs.ROOT / 'benchmarks' / 'peers.py'
  spec = importlib.util.spec_from_file_location('peers', path)
  peers = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(peers)
  finders = list(sys.meta_path)
  module = peers.import_timm()
  if finders != sys.meta_path:  # Other tests must not find the stub.
    sys.meta_path[:] = finders
    for name in [n for n in sys.modules if n.split('.')[0] == 'torchvision']:
      del sys.modules[name]

  def create(**options):
    torch.manual_seed(0)
    model = module.VisionTransformer(**SIZES | options).eval()
    for parameter in model.parameters():
      torch.nn.init.normal_(parameter, std=0.3)
    return model

  return create


def images():
  rng = np.random.default_rng(0)
  return rng.uniform(-1, 1, (2, SIDE, SIDE, 3)).astype('f4')


def their_logits(model):
  batch = torch.from_numpy(images().transpose(0, 3, 1, 2).copy())
  with torch.no_grad():
    return model(batch).numpy()


def our_logits(path, **kwargs):
  params, found = checkpoints.load_with_description(path, **kwargs)
  model = models.create(
    'ViT-B/16', num_classes=found.num_classes, **found.overrides
  )
  logits = jax.jit(model.apply)({'params': params}, images())[0]
  return np.asarray(logits), params, found


@pytest.mark.parametrize('name', MODELS)
def test_options_have_equal_logits(create, name, tmp_path):
  options = MODELS[name]
  theirs = create(**options)
  expected = their_logits(theirs)
  assert expected.std() > 0.1
  folder = tmp_path / 'theirs'
  folder.mkdir()
  path = folder / 'model.safetensors'
  safetensors_torch.save_file(theirs.state_dict(), path)
  arguments = {'num_heads': 4} | options
  config = {
    'model_args': arguments,
    'pretrained_cfg': {'mean': [0.5] * 3, 'std': [0.5] * 3},
  }
  (folder / 'config.json').write_text(json.dumps(config))
  logits, params, found = our_logits(folder)
  np.testing.assert_allclose(logits, expected, atol=1e-4)

  # And back, first to our own reader and then to a new module of timm.
  path = tmp_path / 'ours.safetensors'
  checkpoints.export(
    params,
    path,
    gelu=found.gelu,
    norm_eps=found.norm_eps,
    pool=found.sizes['pool'],
  )
  again, _, same = our_logits(path)
  np.testing.assert_allclose(again, logits, atol=1e-5)
  assert same.overrides == found.overrides
  if 'reg_tokens' in options:
    options = options | {'no_embed_class': True}
  new = create(**options)
  new.load_state_dict(safetensors_torch.load_file(path))
  np.testing.assert_allclose(their_logits(new), expected, atol=1e-4)


def test_fixed_positions_become_a_table(create, tmp_path):
  model = weights.tiny(positions='sincos2d', gelu='erf')
  params = weights.random_params(model, (SIDE, SIDE))
  path = tmp_path / 'model.safetensors'
  settings = {'positions': 'sincos2d', 'gelu': 'erf'}
  with pytest.raises(ValueError, match='one size of images; pass image_size'):
    checkpoints.export(params, path, **settings)
  checkpoints.export(params, path, image_size=SIDE, **settings)
  expected = weights.logits_of(model, params, images())
  logits, _, found = our_logits(path)
  np.testing.assert_allclose(logits, expected, atol=1e-5)
  assert 'positions' not in found.sizes  # Learned ones, the default.
  theirs = create(embed_dim=12, num_heads=3, mlp_ratio=20 / 12, num_classes=4)
  theirs.load_state_dict(safetensors_torch.load_file(path))
  np.testing.assert_allclose(their_logits(theirs), expected, atol=1e-4)
