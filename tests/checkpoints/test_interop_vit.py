"""Exchange of Vision Transformers with Hugging Face's transformers."""

import functools
import pathlib

import jax
import numpy as np
import PIL.Image
import pytest

from vit_jax import checkpoints, models
from vit_jax.checkpoints import position_tables
import weights

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')
safetensors_torch = pytest.importorskip('safetensors.torch')

PHOTOS = (
  pathlib.Path(__file__).resolve().parents[3] / 'shared/data/imagenet_jpegs'
)
SIDE = 64
SIZES = {'depth': 3, 'width': 48, 'mlp_dim': 96, 'heads': 4, 'patch_size': 16}
OTHER = {'tanh': 'erf', 'erf': 'tanh'}


def photos():
  paths = sorted(PHOTOS.glob('*.JPEG'))[:4]
  if not paths:
    rng = np.random.default_rng(0)
    size = (4, SIDE, SIDE, 3)
    return [
      PIL.Image.fromarray(x) for x in rng.integers(256, size=size, dtype='u1')
    ]
  return [
    PIL.Image.open(path).convert('RGB').resize((SIDE, SIDE)) for path in paths
  ]


def pixels(images):
  return np.stack([np.asarray(x, 'f4') for x in images]) / 127.5 - 1


def logits_of(model, params, images):
  return np.asarray(jax.jit(model.apply)({'params': params}, images)[0])


def their_logits(model, images):
  batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  with torch.no_grad():
    return model(pixel_values=batch).logits.numpy()


@pytest.mark.parametrize('gelu', ['tanh', 'erf'])
def test_exported_model_has_equal_logits(tmp_path, gelu):
  model = weights.tiny(gelu=gelu, num_classes=10, **SIZES)
  params = weights.random_params(model, (SIDE, SIDE))
  params['head']['kernel'] *= 5
  names = [f'class {i}' for i in range(10)]
  folder = tmp_path / 'model'
  checkpoints.export(
    params, folder, format='huggingface', gelu=gelu, class_names=names
  )
  theirs, loading = transformers.ViTForImageClassification.from_pretrained(
    folder, output_loading_info=True
  )
  assert not any(loading.values())
  assert theirs.config.id2label == dict(enumerate(names))

  images = photos()
  processor = transformers.ViTImageProcessor.from_pretrained(folder)
  batch = processor(images, return_tensors='pt')
  with torch.no_grad():
    expected = theirs.eval()(**batch).logits.numpy()
  logits = logits_of(model, params, pixels(images))
  assert logits.std() > 0.5
  np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
  other = logits_of(model.clone(gelu=OTHER[gelu]), params, pixels(images))
  assert np.abs(other - expected).max() > 3e-4  # The form of GELU matters.


@pytest.mark.parametrize('save', ['save_pretrained', 'state_dict'])
@pytest.mark.parametrize(
  'activation, gelu', [('gelu', 'erf'), ('gelu_pytorch_tanh', 'tanh')]
)
def test_loaded_model_has_equal_logits(tmp_path, activation, gelu, save):
  torch.manual_seed(0)
  config = transformers.ViTConfig(
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=96,
    hidden_act=activation,
    image_size=SIDE,
    patch_size=16,
    num_labels=10,
    initializer_range=0.3,
  )
  theirs = transformers.ViTForImageClassification(config).eval()
  if save == 'save_pretrained':
    theirs.save_pretrained(tmp_path)
  else:
    config.save_pretrained(tmp_path)
    state = theirs.state_dict()
    safetensors_torch.save_file(state, tmp_path / 'model.safetensors')
  params, description = checkpoints.load_with_description(tmp_path)
  assert (description.gelu, description.norm_eps) == (gelu, 1e-12)
  model = models.create(
    'ViT-B/16', num_classes=description.num_classes, **description.overrides
  )
  adapted, _ = checkpoints.adapt(
    params, model, description.image_size, head='keep'
  )
  images = pixels(photos())
  logits = logits_of(model, adapted, images)
  assert logits.std() > 0.5
  np.testing.assert_allclose(
    logits, their_logits(theirs, images), rtol=0, atol=1e-4
  )


def test_image_processor_of_a_loaded_model_is_followed(tmp_path):
  torch.manual_seed(0)
  config = transformers.ViTConfig(
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=96,
    image_size=SIDE,
    patch_size=16,
    num_labels=10,
    initializer_range=0.3,
  )
  theirs = transformers.ViTForImageClassification(config).eval()
  theirs.save_pretrained(tmp_path)
  processor = transformers.ViTImageProcessor(
    image_mean=[0.485, 0.456, 0.406],
    image_std=[0.229, 0.224, 0.225],
    size={'height': SIDE, 'width': SIDE},
  )
  processor.save_pretrained(tmp_path)
  images = photos()
  with torch.no_grad():
    expected = theirs(**processor(images, return_tensors='pt')).logits.numpy()
  params, description = checkpoints.load_with_description(tmp_path)
  model = models.create('ViT-B/16', num_classes=10, **description.overrides)
  logits = logits_of(model, params, pixels(images))
  np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_exported_model_without_head_has_equal_tokens(tmp_path):
  image_size = (32, 48)
  model = weights.tiny(num_classes=0, **SIZES)
  params = weights.random_params(model, image_size)
  folder = tmp_path / 'model'
  checkpoints.export(
    params, folder, format='huggingface', image_size=image_size
  )
  theirs = transformers.ViTModel.from_pretrained(
    folder, add_pooling_layer=False
  )
  images = weights.random_images(image_size)
  batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
  with torch.no_grad():
    expected = theirs.eval()(pixel_values=batch, output_hidden_states=True)
  _, features = model.apply({'params': params}, images, blocks=range(3))
  close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-4)
  close(features['encoded'], expected.last_hidden_state.numpy())
  _, *states = expected.hidden_states  # The first are the inputs of block 0.
  for i, state in enumerate(states):
    close(features['blocks'][i], state.numpy())
  assert len(states) == 3


@pytest.mark.parametrize('new', [(2, 2), (5, 1), (4, 6)])
@pytest.mark.parametrize(
  ('name', 'method'),
  [
    ('ViT', 'bicubic'),
    ('Dinov2', 'bicubic'),
    ('Dinov2WithRegisters', 'bicubic_antialias'),
  ],
)
def test_positions_are_resized_like_in_transformers(name, method, new):
  config = getattr(transformers, f'{name}Config')(
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=8,
    image_size=24,
    patch_size=8,
  )
  model = getattr(transformers, f'{name}Model')(config)
  rng = np.random.default_rng(0)
  table = rng.normal(size=(1, 10, 8)).astype('f4')
  model.embeddings.position_embeddings.data = torch.from_numpy(table)
  tokens = torch.zeros((1, 1 + new[0] * new[1], 8))
  with torch.no_grad():
    expected = model.embeddings.interpolate_pos_encoding(
      tokens, 8 * new[0], 8 * new[1]
    )
  found = position_tables.resize_grid(table, (3, 3), new, True, method)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
