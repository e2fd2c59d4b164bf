"""The baseline ResNet against its definition, written in NumPy."""

import functools
import re

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.models import resnet

# Sides that are halved to odd ones, and differ; a second stage with a unit that
# passes its input on.
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 21, 26, 3)).astype('f4')
DEPTHS = (1, 2)
FEATURES = {'patches', 'encoded', 'pooled', 'pre_logits'}


def create(**overrides):
  tiny = {'stage_depths': DEPTHS, 'width_factor': 0.5, 'num_classes': 7}
  return models.create('R50x1', **(tiny | overrides))


def random_params(model):
  """Random parameters, so that none keeps an initial value of 0 or 1."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES)['params']
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: rng.normal(0.2, 0.5, x.shape).astype('f4'), shapes
  )


def pad(x, size):
  return np.pad(x, ((0, 0), (size, size), (size, size), (0, 0)))


def windows(x, side, stride):
  """(b, h, w, c, side, side)."""
  view = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))
  return view[:, ::stride, ::stride]


def conv(x, p, stride=1):
  kernel = p['kernel'].astype('f8')
  kernel = kernel - kernel.mean((0, 1, 2))
  kernel /= np.sqrt((kernel**2).mean((0, 1, 2)) + 1e-10)
  x = windows(pad(x, kernel.shape[0] // 2), kernel.shape[0], stride)
  return np.einsum('bhwcij,ijcd->bhwd', x, kernel, optimize=True)


def norm_relu(x, p):
  groups = x.reshape(*x.shape[:3], 32, -1)
  groups = groups - groups.mean((1, 2, 4), keepdims=True)
  groups /= np.sqrt((groups**2).mean((1, 2, 4), keepdims=True) + 1e-5)
  return np.maximum(groups.reshape(x.shape) * p['scale'] + p['bias'], 0)


def unit(x, p, stride):
  y = norm_relu(x, p['gn1'])
  shortcut = conv(y, p['conv_proj'], stride) if 'conv_proj' in p else x
  y = norm_relu(conv(y, p['conv1']), p['gn2'])
  y = norm_relu(conv(y, p['conv2'], stride), p['gn3'])
  return shortcut + conv(y, p['conv3'])


def tokens(x):
  return x.reshape(len(x), -1, x.shape[-1])


@pytest.mark.parametrize(
  'brightness',
  [1, 1e-3],  # At the second, the epsilon of the first norms counts.
)
def test_definition(brightness):
  model = create()
  p = random_params(model)
  images = brightness * IMAGES
  root = windows(pad(conv(images, p['conv_root'], 2), 1), 3, 2).max((4, 5))
  first = unit(root, p['block1']['unit1'], 1)
  x = unit(first, p['block2']['unit1'], 2)
  x = unit(x, p['block2']['unit2'], 1)
  encoded = tokens(norm_relu(x, p['gn_final']))
  pooled = encoded.mean(1)

  apply = jax.jit(functools.partial(model.apply, blocks=(0, -1)))
  logits, features = apply({'params': p}, images)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
  close(features['blocks'][0], tokens(first))
  close(features['blocks'][-1], tokens(x))
  close(features['patches'], tokens(root))
  close(features['encoded'], encoded)
  close(features['pooled'], pooled)
  close(features['pre_logits'], pooled)
  close(logits, pooled @ p['head']['kernel'] + p['head']['bias'])
  assert encoded.shape[1] == np.prod(model.grid_shape((21, 26)))


def test_epsilon_of_the_kernel_is_added_to_the_variance():
  # Weights of mean 0 and variance 1e-10: 1e-5 / sqrt(1e-10 + 1e-10).
  kernel = jnp.array([1e-5, -1e-5]).reshape(1, 1, 2, 1)
  standardized = jax.jit(resnet.standardize)(kernel)
  np.testing.assert_allclose(
    standardized.ravel(), [0.5**0.5, -(0.5**0.5)], rtol=1e-5
  )


def test_names_and_shapes():
  shapes = {
    name: value.shape
    for name, value in traverse_util.flatten_dict(
      random_params(create()), sep='/'
    ).items()
  }
  expected = {
    'conv_root/kernel': (7, 7, 3, 32),
    'gn_final/scale': (256,),
    'gn_final/bias': (256,),
    'head/kernel': (256, 7),
    'head/bias': (7,),
  }
  units = {
    'block1/unit1': (32, 32),
    'block2/unit1': (128, 64),
    'block2/unit2': (256, 64),
  }
  for name, (inputs, width) in units.items():
    expected |= {
      f'{name}/conv1/kernel': (1, 1, inputs, width),
      f'{name}/conv2/kernel': (3, 3, width, width),
      f'{name}/conv3/kernel': (1, 1, width, 4 * width),
    }
    for norm, channels in {'gn1': inputs, 'gn2': width, 'gn3': width}.items():
      expected[f'{name}/{norm}/scale'] = (channels,)
      expected[f'{name}/{norm}/bias'] = (channels,)
    if name.endswith('unit1'):
      expected[f'{name}/conv_proj/kernel'] = (1, 1, inputs, 4 * width)
  assert shapes == expected


def test_initial_values():
  model = create(stage_depths=(1,), head_bias=-10.0)
  params = jax.jit(model.init)(jax.random.key(0), IMAGES)['params']
  assert not params['head']['kernel'].any()
  assert (params['head']['bias'] == -10).all()
  flat = traverse_util.flatten_dict(params)
  norms = {path: x for path, x in flat.items() if path[-2].startswith('gn')}
  assert len(norms) == 2 * (3 + 1)
  for (*_, name), value in norms.items():
    assert (value == (name == 'scale')).all()
  # LeCun: variance 1 / fan-in, here 7 * 7 * 3.
  kernel = params['conv_root']['kernel']
  assert kernel.std() == pytest.approx(147**-0.5, rel=0.1)


def test_bfloat16_leaves_parameters_norms_and_head_in_float32():
  model = create(dtype='bfloat16')
  p = random_params(model)
  text = str(jax.make_jaxpr(model.apply)({'params': p}, IMAGES))

  def result_types(primitive):
    return re.findall(rf':(\w+)\[[\d,]*\] = {primitive}\b', text)

  assert result_types('conv_general_dilated') == ['bf16'] * (1 + 3 * 3 + 2)
  assert set(result_types('rsqrt') + result_types('sqrt')) == {'f32'}
  assert result_types('dot_general') == ['f32']
  logits, features = jax.jit(model.apply)({'params': p}, IMAGES)
  exact, _ = jax.jit(create().apply)({'params': p}, IMAGES)
  assert logits.dtype == features['encoded'].dtype == jnp.float32
  np.testing.assert_allclose(logits, exact, atol=0.05 * abs(exact).max())


@pytest.mark.parametrize('num_classes', [0, 7])
@pytest.mark.parametrize('train', [False, True])
def test_features_have_the_names_of_all_models(num_classes, train):
  model = create(num_classes=num_classes)
  p = random_params(model)
  assert ('head' in p) == (num_classes > 0)
  logits, features = jax.eval_shape(
    functools.partial(model.apply, train=train), {'params': p}, IMAGES
  )
  assert set(features) == FEATURES
  assert features['encoded'].shape == (2, 3 * 4, 256)
  assert features['pooled'].shape == features['pre_logits'].shape == (2, 256)
  assert (logits and logits.shape) == ((2, 7) if num_classes else None)


def test_other_images_are_refused():
  with pytest.raises(ValueError, match='floats in .* uint8'):
    jax.eval_shape(create().init, jax.random.key(0), IMAGES.astype('u1'))
