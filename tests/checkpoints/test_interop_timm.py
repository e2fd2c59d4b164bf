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
from vit_jax.data import decode, preprocess
import weights

torch = pytest.importorskip('torch')
safetensors_torch = pytest.importorskip('safetensors.torch')

PHOTOS = runs.SHARED / 'data' / 'imagenet_jpegs'
SIDE = 24  # 3x3 patches.
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
  'SigLIP': (
    'vit_base_patch16_siglip_224.webli',
    {'global_pool': 'map', 'class_token': False, 'act_layer': 'gelu_tanh'},
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
  'DINO': ('vit_small_patch16_224.dino', {}),
  'DeiT': ('deit_tiny_patch16_224.fb_in1k', {}),
  'DeiT III': ('deit3_small_patch16_224.fb_in22k_ft_in1k', {}),
  'DINOv2': ('vit_small_patch14_dinov2.lvd142m', {}),
  'DINOv2, registers': ('vit_small_patch14_reg4_dinov2.lvd142m', {}),
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


def photos(precrop):
  """Returns wide photos, and their pixels after timm's resizing and crop.

  All are cropped by as many pixels on the left and the right. Otherwise, timm
  rounds the offset of the crop to even, this project down.

  Args:
    precrop: height after resizing.
  """
  paths = sorted(PHOTOS.glob('*.JPEG'))[:12]
  images = [PIL.Image.open(path).convert('RGB') for path in paths]
  if not images:
    noise = np.random.default_rng(0).integers(256, size=(2, 32, 40, 3))
    images = [PIL.Image.fromarray(x) for x in noise.astype('u1')]
  photos, pixels = [], []
  for image in images:
    width = precrop * image.width // image.height
    left, top = (width - SIDE) // 2, (precrop - SIDE) // 2
    if width >= precrop and width % 2 == SIDE % 2:
      small = image.resize((width, precrop), PIL.Image.Resampling.BICUBIC)
      small = small.crop((left, top, left + SIDE, top + SIDE))
      photos.append(image)
      pixels.append(np.asarray(small, 'f4') / 255)
  return photos[:2], np.stack(pixels[:2])


def our_images(photos, evaluation):
  settings = dataclasses.asdict(evaluation)
  decoder = decode.Decoder(bits=settings.pop('bits'))
  transform = preprocess.eval_transform(**settings, decoder=decoder)
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
  theirs = create(timm, *MODELS[name])
  timm.models.save_for_hf(theirs, tmp_path / 'theirs', safe_serialization=True)
  params, found = checkpoints.load_with_description(tmp_path / 'theirs')
  assert found.image_size == (SIDE, SIDE)
  cfg = theirs.pretrained_cfg
  examples, pixels = photos(int(SIDE / cfg['crop_pct']))
  images = our_images(examples, found.evaluation)
  mean, std = np.float32(cfg['mean']), np.float32(cfg['std'])
  expected = outputs_of_theirs(theirs, (pixels - mean) / std)
  assert_close(outputs_of_ours(params, found, images), expected)

  path = tmp_path / 'ours.safetensors'
  kept = ('gelu', 'norm_eps', 'evaluation')
  settings = {field: getattr(found, field) for field in kept}
  pool = found.sizes['pool']
  checkpoints.export(params, path, pool=pool, **settings)
  again, same = checkpoints.load_with_description(path)
  assert same == dataclasses.replace(found, image_size=None)
  options = MODELS[name][1] | {
    'num_classes': theirs.num_classes,
    'reg_tokens': theirs.num_reg_tokens,
    'no_embed_class': 'registers' in params,
  }
  new = create(timm, 'vit_base_patch16_224', options)
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
