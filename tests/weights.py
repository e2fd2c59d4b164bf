"""Small models and random weights for tests of checkpoints."""

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax import models

IMAGE_SIZE = (16, 24)  # Two rows and three columns of patches.
SIZES = {
  'depth': 2,
  'width': 12,
  'mlp_dim': 20,
  'heads': 3,
  'patch_size': 8,
}


def tiny(name='ViT-Ti/16', *, num_classes=4, **overrides):
  return models.create(name, num_classes=num_classes, **SIZES | overrides)


def random_params(model, image_size=IMAGE_SIZE, *, seed=0):
  """Returns random weights, all distinct and nonzero."""
  shape = 1, *image_size, model.channels
  image = jax.ShapeDtypeStruct(shape, jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)['params']
  rng = np.random.default_rng(seed)
  flat = {
    name: rng.normal(size=x.shape, scale=0.3).astype(x.dtype)
    for name, x in traverse_util.flatten_dict(shapes, sep='/').items()
  }
  return traverse_util.unflatten_dict(flat, sep='/')


def random_images(image_size=IMAGE_SIZE, *, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform(-1, 1, (2, *image_size, 3)).astype('f4')


def logits_of(model, params, images):
  return np.asarray(model.apply({'params': params}, images)[0])


def assert_same(tree, expected):
  """Checks that names are equal and arrays bit-identical."""
  left, right = (
    traverse_util.flatten_dict(t, sep='/') for t in (tree, expected)
  )
  assert set(left) == set(right)
  for name, value in right.items():
    assert left[name].dtype == value.dtype, name
    assert left[name].shape == value.shape, name
    assert left[name].tobytes() == np.asarray(value).tobytes(), name
