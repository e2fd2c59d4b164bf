"""The stem of the hybrids, where no golden number reaches."""

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.models import hybrid_stem

IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 21, 26, 3)).astype('f4')


def create(**overrides):
  tiny = {
    'stage_depths': (1, 2),
    'width_factor': 0.5,
    'depth': 1,
    'width': 12,
    'mlp_dim': 20,
    'num_classes': 7,
  }
  return models.create('R50+ViT-Ti/16', **(tiny | overrides))


def test_epsilon_of_the_kernel_is_added_to_the_deviation():
  # Weights of mean 0 and deviation 1e-5: 1e-5 / (1e-5 + 1e-5).
  kernel = jnp.array([1e-5, -1e-5]).reshape(1, 1, 2, 1)
  standardized = jax.jit(hybrid_stem.standardize)(kernel)
  np.testing.assert_allclose(standardized.ravel(), [0.5, -0.5], rtol=1e-5)


def test_names_and_shapes_are_the_official_ones():
  model = create(pool='gap')
  params = jax.eval_shape(model.init, jax.random.key(0), IMAGES)['params']
  del params['Transformer'], params['head']
  shapes = {
    name: value.shape
    for name, value in traverse_util.flatten_dict(params, sep='/').items()
  }
  expected = {
    'conv_root/kernel': (7, 7, 3, 32),
    'gn_root/scale': (32,),
    'gn_root/bias': (32,),
    'embedding/kernel': (1, 1, 256, 12),
    'embedding/bias': (12,),
  }
  units = {
    'block1/unit1': (32, 32),
    'block2/unit1': (128, 64),
    'block2/unit2': (256, 64),
  }
  for name, (inputs, width) in units.items():
    kernels = {
      'conv1': (1, 1, inputs, width),
      'conv2': (3, 3, width, width),
      'conv3': (1, 1, width, 4 * width),
    }
    norms = {'gn1': width, 'gn2': width, 'gn3': 4 * width}
    if name.endswith('unit1'):
      kernels['conv_proj'] = (1, 1, inputs, 4 * width)
      norms['gn_proj'] = 4 * width
    for conv, shape in kernels.items():
      expected[f'{name}/{conv}/kernel'] = shape
    for norm, channels in norms.items():
      expected[f'{name}/{norm}/scale'] = (channels,)
      expected[f'{name}/{norm}/bias'] = (channels,)
  assert shapes == expected


def create_stem(stage_depths, dtype=jnp.float32):
  return hybrid_stem.HybridStem(stage_depths, width=32, dtype=dtype)


def test_only_the_last_norm_of_a_unit_starts_from_zero():
  params = jax.jit(create_stem((1,)).init)(jax.random.key(0), IMAGES)['params']
  scales = {
    path[-2]: np.unique(value).tolist()
    for path, value in traverse_util.flatten_dict(params).items()
    if path[-1] == 'scale'
  }
  assert scales.pop('gn3') == [0]
  assert scales == dict.fromkeys(['gn_root', 'gn_proj', 'gn1', 'gn2'], [1])


def windows(x, side, fill):
  """(b, h, w, c, side, side) with stride 2; the odd pad below and right."""
  total = side - 2  # For even sides of x.
  pads = (total // 2, total - total // 2)
  x = np.pad(x, ((0, 0), pads, pads, (0, 0)), constant_values=fill)
  view = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))
  return view[:, ::2, ::2]


def test_root_in_images_so_dark_that_epsilon_counts():
  images = 1e-4 * IMAGES[:, :20, :24]
  stem = create_stem(())
  params = jax.jit(stem.init)(jax.random.key(0), images)
  kernel = params['params']['conv_root']['kernel']
  kernel = np.asarray(hybrid_stem.standardize(kernel), 'f8')
  x = np.einsum('bhwcij,ijcd->bhwd', windows(images, 7, 0), kernel)
  # As many groups as channels.
  x = x - x.mean((1, 2), keepdims=True)
  x = np.maximum(x / np.sqrt((x**2).mean((1, 2), keepdims=True) + 1e-6), 0)
  x = windows(x, 3, -np.inf).max((4, 5))
  np.testing.assert_allclose(
    jax.jit(stem.apply)(params, images), x, rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize(
  'stage_depths, sizes',
  [
    ((), {(21, 26): (6, 7), (32, 64): (8, 16)}),
    ((1,), {(21, 26): (6, 7), (1, 4): (1, 1)}),
    ((1, 1, 1), {(21, 26): (2, 2), (16, 17): (1, 2)}),
  ],
)
def test_sides_are_divided_by_the_stride_and_rounded_up(stage_depths, sizes):
  model = create(stage_depths=stage_depths, pool='gap')
  for size, grid in sizes.items():
    images = jax.ShapeDtypeStruct((1, *size, 3), 'float32')
    _, features = jax.eval_shape(
      lambda x: model.init_with_output(jax.random.key(0), x)[0], images
    )
    assert model.grid_shape(size) == grid
    assert features['patches'].shape == (1, np.prod(grid), 12)


def test_bfloat16_stays_near_float32():
  stem = create_stem((1,))
  params = jax.jit(stem.init)(jax.random.key(0), IMAGES)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  exact = jax.jit(stem.apply)(params, IMAGES)
  rough = jax.jit(create_stem((1,), jnp.bfloat16).apply)(params, IMAGES)
  assert rough.dtype == jnp.bfloat16
  np.testing.assert_allclose(rough.astype('f4'), exact, atol=0.05)
  assert exact.std() > 0.5
