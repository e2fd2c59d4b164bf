"""Exchange of Vision Transformers with timm, with random weights."""

import dataclasses
import importlib.util
import sys

import jax
import numpy as np
import PIL.Image
import pytest

import runs
from vit_jax import checkpoints, models
from vit_jax.checkpoints import position_tables
from vit_jax.data import preprocess
import weights

torch = pytest.importorskip('torch')
safetensors_torch = pytest.importorskip('safetensors.torch')

PHOTOS = runs.SHARED / 'data' / 'imagenet_jpegs'
SIDE = 24  # 3x3 patches.
PRECROP = 26  # For the models' crop_pct of 0.9.
SIZES = {
  'img_size': SIDE,
  'patch_size': 8,
  'embed_dim': 16,
  'depth': 1,
  'num_heads': 4,
  'mlp_ratio': 2,
}
# Name in timm and arguments, by description.
MODELS = {
  'norm after mean': ('vit_base_patch16_224', {'global_pool': 'avg'}),
  'mean, with class token': (
    'vit_base_patch16_224',
    {'global_pool': 'avg', 'fc_norm': False},
  ),
  'attention': ('vit_base_patch16_224', {'global_pool': 'map'}),
  'attention, no class token': (
    'vit_base_patch16_224',
    {'global_pool': 'map', 'class_token': False},
  ),
  'registers': ('vit_base_patch16_224', {'reg_tokens': 4}),
  'registers and attention': (
    'vit_base_patch16_224',
    {'reg_tokens': 2, 'global_pool': 'map', 'class_token': False},
  ),
  'registers without positions': (
    'vit_base_patch16_224',
    {'reg_tokens': 5, 'no_embed_class': True, 'global_pool': 'avg'},
  ),
  'patches have positions': (
    'vit_base_patch16_224',
    {'no_embed_class': True},
  ),
  'MAE': ('vit_base_patch16_224.mae', {}),
  'DeiT': ('deit_tiny_patch16_224.fb_in1k', {}),
}


@pytest.fixture(scope='module')
def timm():
  """The package, imported without torchvision."""
  if importlib.util.find_spec('timm') is None:
    pytest.skip('timm is not installed')
  path = runs.ROOT / 'benchmarks' / 'peers.py'
  spec = importlib.util.spec_from_file_location('peers', path)
  peers = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(peers)
  found = importlib.util.find_spec('torchvision')
  peers._import_timm()
  assert importlib.util.find_spec('torchvision') == found  # No stub is left.
  return sys.modules['timm']


def create(timm, name, options):
  """Returns timm's model with random weights."""
  torch.manual_seed(0)
  model = timm.create_model(name, **SIZES | options).eval()
  for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.3)
  return model


def photos():
  """Returns photos whose longest side is cropped by whole pixels on both sides.

  Otherwise, timm rounds half a pixel to an even number, and this project down.
  """
  images = [PIL.Image.open(x) for x in sorted(PHOTOS.glob('*.JPEG'))[:8]]
  if not images:
    noise = np.random.default_rng(0).integers(256, size=(2, 40, 32, 3))
    images = [PIL.Image.fromarray(x) for x in noise.astype('u1')]
  images = [image.convert('RGB') for image in images]
  return [x for x in images if max(resized(x).size) % 2 == SIDE % 2][:2]


def resized(image):
  """Returns an image whose shortest side is resized like in timm."""
  short = min(image.size)
  size = [PRECROP * x // short for x in image.size]
  return image.resize(size, PIL.Image.Resampling.BICUBIC)


def cropped(image):
  """Returns the pixels of a photo resized and cropped like in timm."""
  image = resized(image)
  left, top = ((x - SIDE) // 2 for x in image.size)
  return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), 'f4')


def our_images(photos, evaluation):
  transform = preprocess.eval_transform(**dataclasses.asdict(evaluation))
  return np.stack([transform(np.asarray(x)) for x in photos])


def outputs_of_theirs(model, images):
  """Returns tokens, and logits or, without a head, pooled features."""
  batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  with torch.no_grad():
    return model.forward_features(batch).numpy(), model(batch).numpy()


def outputs_of_ours(params, found, images):
  """Same as `outputs_of_theirs`, for a checkpoint of this project."""
  model = models.create(
    'ViT-B/16', num_classes=found.num_classes, **found.overrides
  )
  logits, features = jax.jit(model.apply)({'params': params}, images)
  output = features['pooled'] if logits is None else logits
  return np.asarray(features['encoded']), np.asarray(output)


def assert_close(found, expected):
  for left, right in zip(found, expected, strict=True):
    assert right.std() > 0.1
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-4)


@pytest.mark.parametrize('name', MODELS)
def test_both_directions(timm, name, tmp_path):
  architecture, options = MODELS[name]
  theirs = create(timm, architecture, options)
  timm.models.save_for_hf(theirs, tmp_path / 'theirs', safe_serialization=True)
  params, found = checkpoints.load_with_description(tmp_path / 'theirs')
  cfg = theirs.pretrained_cfg
  assert found.image_size == (SIDE, SIDE)
  pixels = np.stack([cropped(x) for x in photos()])
  images = pixels / 127.5 - 1
  np.testing.assert_allclose(
    our_images(photos(), found.evaluation), images, atol=1.1 / 127.5
  )  # Up to the rounding of a pixel's value.
  mean, std = np.float32(cfg['mean']), np.float32(cfg['std'])
  expected = outputs_of_theirs(theirs, (pixels / 255 - mean) / std)
  assert_close(outputs_of_ours(params, found, images), expected)

  path = tmp_path / 'ours.safetensors'
  kept = ('gelu', 'norm_eps', 'evaluation')
  settings = {field: getattr(found, field) for field in kept}
  pool = found.sizes['pool']
  checkpoints.export(params, path, pool=pool, **settings)
  again, same = checkpoints.load_with_description(path)
  assert same == dataclasses.replace(found, image_size=None)
  # With registers, only patches have positions. Folded parts are not restored.
  options = {'no_embed_class': 'registers' in params, 'init_values': None}
  new = create(timm, architecture, MODELS[name][1] | options)
  new.load_state_dict(safetensors_torch.load_file(path), strict=True)
  assert_close(outputs_of_theirs(new, images), expected)
  if 'registers' not in params:
    weights.assert_same(again, params)


def test_distilled_models_are_refused(timm, tmp_path):
  theirs = create(timm, 'deit_tiny_distilled_patch16_224.fb_in1k', {})
  timm.models.save_for_hf(theirs, tmp_path, safe_serialization=True)
  with pytest.raises(ValueError, match="'dist_token'.* a distillation token"):
    checkpoints.load(tmp_path)


@pytest.mark.parametrize('size', [(SIDE, 40), (32, 32)])
def test_image_size_shows_which_tokens_have_positions(timm, tmp_path, size):
  """A class token and 3x5 patches, or only 4x4 patches: 16 positions."""
  patches_only = size == (32, 32)
  options = {'img_size': size, 'no_embed_class': patches_only}
  theirs = create(timm, 'vit_base_patch16_224', options)
  assert theirs.pos_embed.shape[1] == 16
  timm.models.save_for_hf(theirs, tmp_path, safe_serialization=True)
  params, found = checkpoints.load_with_description(tmp_path)
  table = params['Transformer']['posembed_input']['pos_embedding']
  assert table.shape[1] == 17 if patches_only else 16
  assert np.any(table[:, 0]) != patches_only
  images = weights.random_images(size)
  expected = outputs_of_theirs(theirs, images)
  assert_close(outputs_of_ours(params, found, images), expected)

  path = tmp_path / 'ours' / 'ours.safetensors'
  checkpoints.export(params, path)
  weights.assert_same(checkpoints.load(path), params)
  if patches_only:  # Without config.json, a square of patches is assumed.
    (tmp_path / 'config.json').unlink()
    file = tmp_path / 'model.safetensors'
    weights.assert_same(checkpoints.load(file, heads=4), params)


@pytest.mark.parametrize('new', [(2, 2), (5, 1), (4, 6)])
def test_positions_are_resized_like_in_timm(timm, new):
  rng = np.random.default_rng(0)
  table = rng.normal(size=(1, 1 + 3 * 4, 5)).astype('f4')
  expected = timm.layers.resample_abs_pos_embed(
    torch.from_numpy(table), new_size=list(new), old_size=[3, 4]
  )
  found = position_tables.resize_grid(
    table, (3, 4), new, True, 'bicubic_antialias'
  )
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_models_agree_on_images_of_another_size(timm, tmp_path):
  theirs = create(timm, 'vit_base_patch16_224', {'dynamic_img_size': True})
  timm.models.save_for_hf(theirs, tmp_path, safe_serialization=True)
  images = weights.random_images((16, 40))
  expected = outputs_of_theirs(theirs, images)
  params, found = checkpoints.load_with_description(tmp_path)
  model = models.create('ViT-B/16', num_classes=1000, **found.overrides)
  adapted, _ = checkpoints.adapt(
    params,
    model,
    (16, 40),
    head='keep',
    old_image_size=found.image_size,
    resize_positions='bicubic_antialias',
  )
  assert_close(outputs_of_ours(adapted, found, images), expected)
