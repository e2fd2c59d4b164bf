"""DINO, DINOv2, MAE and SigLIP of Hugging Face's transformers, read as ViTs.

Their own classes and image processors give the expected values.
"""

import pathlib

import jax
import numpy as np
import PIL.Image
import pytest

from vit_jax import checkpoints, models
from vit_jax.data import preprocess
import weights

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

PHOTOS = (
  pathlib.Path(__file__).resolve().parents[3] / 'shared/data/imagenet_jpegs'
)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIDE = 32
SIZES = {
  'hidden_size': 16,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
  'image_size': SIDE,
  'patch_size': 8,
  'layer_norm_eps': 1e-6,
}
IMAGES = {'image_mean': MEAN, 'image_std': STD, 'resample': 3}


def photos():
  paths = sorted(PHOTOS.glob('*.JPEG'))[:2]
  if paths:
    return [PIL.Image.open(path).convert('RGB') for path in paths]
  rng = np.random.default_rng(0)
  coarse = rng.integers(256, size=(2, 6, 8, 3), dtype='u1')
  return [PIL.Image.fromarray(x).resize((80, 60)) for x in coarse]


def config_of(family, **options):
  return getattr(transformers, f'{family}Config')(**SIZES | options)


def random_model(name, config):
  """Returns a model with random parameters, apart from fixed positions."""
  torch.manual_seed(0)
  model = getattr(transformers, name)(config).eval()
  with torch.no_grad():
    for parameter, value in model.named_parameters():
      if 'position' not in parameter:
        value.normal_(std=0.3)
  return model


def loaded(folder):
  params, found = checkpoints.load_with_description(folder)
  model = models.create(
    'ViT-B/16', num_classes=found.num_classes, **found.overrides
  )
  adapted, _ = checkpoints.adapt(params, model, found.image_size, head='keep')
  return model, adapted, found


MAE = {
  'mask_ratio': 0.0,
  'decoder_hidden_size': 8,
  'decoder_num_hidden_layers': 1,
  'decoder_num_attention_heads': 2,
  'decoder_intermediate_size': 16,
}


@pytest.mark.parametrize(
  ('family', 'kind', 'options'),
  [
    ('Dinov2', 'Model', {}),
    ('Dinov2WithRegisters', 'Model', {'num_register_tokens': 3}),
    ('ViTMAE', 'Model', MAE),
    ('ViTMAE', 'ForPreTraining', MAE),
    ('ViT', 'Model', {}),
  ],
)
def test_features_are_equal(tmp_path, family, kind, options):
  theirs = random_model(family + kind, config_of(family, **options))
  theirs.save_pretrained(tmp_path)
  side = {'height': SIDE, 'width': SIDE}
  if family.startswith('Dinov2'):
    edge = {'shortest_edge': 40}
    processor = transformers.BitImageProcessor(
      size=edge, crop_size=side, **IMAGES
    )
  else:
    processor = transformers.ViTImageProcessor(size=side, **IMAGES)
  processor.save_pretrained(tmp_path)
  inputs = {}
  if family == 'ViTMAE':  # The order in which it sorts patches.
    inputs['noise'] = torch.arange(16.0).repeat(2, 1)
  encoder = theirs.vit if kind == 'ForPreTraining' else theirs

  model, params, found = loaded(tmp_path)
  evaluation = found.evaluation
  transform = preprocess.eval_transform(
    image_size=evaluation.image_size,
    crop=evaluation.crop,
    precrop_size=evaluation.precrop_size,
    interpolation=evaluation.interpolation,
  )
  images = photos()
  batch = processor(images, return_tensors='pt')
  with torch.no_grad():
    expected = encoder(**batch, **inputs).last_hidden_state.numpy()
  pixels = np.stack([transform(np.asarray(image)) for image in images])
  encoded = jax.jit(model.apply)({'params': params}, pixels)[1]['encoded']
  assert encoded.std() > 0.1
  np.testing.assert_allclose(encoded, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('towers', [1, 2])
def test_the_image_tower_of_siglip(tmp_path, towers):
  config, name = config_of('SiglipVision', intermediate_size=32), 'Vision'
  if towers == 2:
    text = {
      'hidden_size': 8, 'intermediate_size': 8, 'num_hidden_layers': 1,
      'num_attention_heads': 1, 'vocab_size': 9,
    }  # fmt: skip
    name = ''
    config = transformers.SiglipConfig(
      text_config=text, vision_config=config.to_dict()
    )
  theirs = random_model(f'Siglip{name}Model', config)
  theirs.save_pretrained(tmp_path)
  tower = theirs if towers == 1 else theirs.vision_model
  images = weights.random_images((SIDE, SIDE))
  with torch.no_grad():
    expected = tower(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
  model, params, found = loaded(tmp_path)
  assert (found.gelu, found.sizes['pool']) == ('tanh', 'map')
  assert bool(found.ignored) == (towers == 2)
  features = jax.jit(model.apply)({'params': params}, images)[1]
  for ours, theirs in (
    ('encoded', expected.last_hidden_state),
    ('pooled', expected.pooler_output),
  ):
    assert theirs.numpy().std() > 0.1
    np.testing.assert_allclose(features[ours], theirs, rtol=0, atol=1e-4)


def test_registers_are_exported_as_dinov2(tmp_path):
  sizes = {'mlp_dim': 24, 'registers': 3}
  model = weights.tiny(num_classes=5, **sizes)
  params = weights.random_params(model, (16, 16))
  folder = tmp_path / 'model'
  checkpoints.export(params, folder, format='huggingface', gelu='erf')
  weights.assert_same(checkpoints.load(folder), params)
  theirs, loading = (
    transformers.Dinov2WithRegistersForImageClassification.from_pretrained(
      folder, output_loading_info=True
    )
  )
  assert not any(loading.values())
  images = weights.random_images((16, 16))
  batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  with torch.no_grad():
    expected = theirs.eval()(pixel_values=batch).logits.numpy()
  model = model.clone(gelu='erf')
  logits = weights.logits_of(model, params, images)
  np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_a_head_for_the_mean_of_patches_is_refused(tmp_path):
  config = config_of('Dinov2', num_labels=3)
  theirs = random_model('Dinov2ForImageClassification', config)
  theirs.save_pretrained(tmp_path)
  with pytest.raises(ValueError, match="'classifier.weight' is for .* mean of"):
    checkpoints.load(tmp_path)


@pytest.mark.parametrize(
  ('family', 'options', 'message'),
  [
    (
      'DeiT',
      {'intermediate_size': 32},
      "'embeddings.distillation_token' .* a distillation token and two heads",
    ),
    (
      'Dinov2',
      {'use_swiglu_ffn': True},
      r'config.json specifies use_swiglu_ffn=true; .*SwiGLU',
    ),
    (
      'Beit',
      {'intermediate_size': 32, 'use_relative_position_bias': True},
      'this kind of relative positions',
    ),
    (
      'CLIPVision',
      {'intermediate_size': 32, 'hidden_act': 'gelu'},
      'a norm before the encoder',
    ),
  ],
)
def test_other_models_are_refused_by_part(tmp_path, family, options, message):
  config = config_of(family, **options)
  random_model(f'{family}Model', config).save_pretrained(tmp_path)
  with pytest.raises(ValueError, match=message):
    checkpoints.load(tmp_path)
