"""Forms for one kind of device compute what the plain forms do."""

import functools
import types

import jax
from jax._src.cudnn import fused_attention_stablehlo as cudnn
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.models import kernels, stacking, vit

FORMS = pytest.mark.parametrize('form', [vit.attention, kernels.late_division])


def heads(seed, dtype=jnp.float32, tokens=7, size=8):
  """Queries, keys, values and the gradient of the result."""
  shape = 4, 2, 3, tokens, size
  return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def by_autodiff(query, key, value, extra):
  scores = jnp.einsum('bhqs,bhks->bhqk', query, key)
  return jnp.einsum('bhqk,bhks->bhqs', jax.nn.softmax(scores + extra), value)


@FORMS
def test_the_gradient_of_attention_is_that_of_jax(form):
  query, key, value, grad = heads(0)
  extra = jax.random.normal(jax.random.key(1), (2, 3, 7, 7))
  arguments = query, key, value, extra
  expected, expected_vjp = jax.vjp(by_autodiff, *arguments)
  out, vjp = jax.vjp(form, *arguments)
  np.testing.assert_allclose(out, expected, atol=1e-5)
  for found, wanted in zip(vjp(grad), expected_vjp(grad), strict=True):
    assert jnp.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@FORMS
def test_attention_in_bfloat16_is_near_that_in_float32(form):
  *arguments, grad = heads(0, jnp.bfloat16)
  out, vjp = jax.vjp(form, *arguments)
  *exact, exact_grad = (x.astype(jnp.float32) for x in (*arguments, grad))
  expected, expected_vjp = jax.vjp(form, *exact)
  pairs = zip(
    (out, *vjp(grad)), (expected, *expected_vjp(exact_grad)), strict=True
  )
  for found, wanted in pairs:
    assert found.dtype == jnp.bfloat16
    error = jnp.abs(found.astype(jnp.float32) - wanted).max()
    assert error < 0.03 * jnp.abs(wanted).max()


def test_flash_attention_agrees_with_the_plain_form():
  """With the implementation of JAX's function that runs on all devices."""
  *arguments, grad = heads(0)
  flash = functools.partial(kernels.flash, implementation='xla')
  out, vjp = jax.vjp(flash, *arguments)
  expected, expected_vjp = jax.vjp(vit.attention, *arguments)
  np.testing.assert_allclose(out, expected, atol=1e-5)
  for found, wanted in zip(vjp(grad), expected_vjp(grad), strict=True):
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize('tokens', [196, 197])
def test_jax_has_gradients_of_cudnn_attention(tokens, monkeypatch):
  """JAX checks shapes while tracing, which needs no GPU."""
  monkeypatch.setattr(cudnn, 'check_cudnn_version', lambda: 91000)
  monkeypatch.setattr(cudnn, 'check_compute_capability', lambda _: True)
  monkeypatch.setattr(
    cudnn, 'is_cuda_compute_capability_equal', lambda _: False
  )
  x = jax.ShapeDtypeStruct((2, 3, tokens, 64), jnp.bfloat16)

  def loss(*qkv):
    return jnp.sum(kernels.flash(*qkv).astype(jnp.float32))

  shapes = jax.eval_shape(jax.grad(loss, argnums=(0, 1, 2)), x, x, x)
  assert [grad.shape for grad in shapes] == [x.shape] * 3


@pytest.mark.parametrize(
  'platform, dtype, size, there',
  [
    (kernels.FLASH, jnp.bfloat16, 64, True),
    (kernels.FLASH, jnp.bfloat16, 80, True),
    (kernels.FLASH, jnp.bfloat16, 20, False),
    (kernels.FLASH, jnp.bfloat16, 256, False),
    (kernels.FLASH, jnp.float32, 64, False),
    ('gpu', jnp.bfloat16, 64, False),
    ('cpu', jnp.bfloat16, 64, False),
    ('tpu', jnp.bfloat16, 64, False),
  ],
)
def test_where_flash_attention_is_used(platform, dtype, size, there):
  query = jax.ShapeDtypeStruct((2, 3, 7, size), dtype)
  used = kernels.attention(platform, query, query, None) is kernels.flash
  assert used == there
  token = jax.ShapeDtypeStruct((2, 3, 1, size), dtype)
  assert kernels.attention(platform, token, query, None) is not kernels.flash
  extra = jax.ShapeDtypeStruct((2, 3, 7, 7), jnp.float32)
  assert kernels.attention(platform, query, query, extra) is not kernels.flash


@pytest.mark.parametrize(
  'platform, capability, expected',
  [
    ('gpu', '9.0', kernels.FLASH),
    ('gpu', '8.0', kernels.FLASH),
    ('gpu', '12.0', kernels.FLASH),
    ('gpu', '7.5', 'gpu'),
    ('gpu', 'gfx90a', 'gpu'),
    ('gpu', None, 'gpu'),
    ('tpu', None, 'tpu'),
  ],
)
def test_kinds_of_other_devices(platform, capability, expected):
  device = types.SimpleNamespace(
    platform=platform, compute_capability=capability
  )
  assert kernels.platform_of(device) == expected


def test_kind_of_this_device():
  assert kernels.platform_of(jax.devices()[0]) == 'cpu'


@pytest.mark.parametrize(
  'platform, options',
  [
    ('', {}),
    ('cpu', {'positions': 'relative'}),
    ('tpu', {'positions': 'relative'}),
    ('gpu', {'scan': True, 'remat': 'full'}),
    ('cpu', {'scan': True, 'remat': 'dots', 'dropout': 0.1}),
  ],
)
def test_a_model_is_differentiable_in_forward_and_reverse_mode(
  platform, options
):
  size = {'depth': 1, 'width': 12, 'mlp_dim': 20, 'heads': 3}
  model = models.create(
    'ViT-Ti/4', num_classes=3, platform=platform, **size, **options
  )
  plain = model.clone(scan=False, dropout=0.0)
  images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3), minval=-1)
  shapes = jax.eval_shape(plain.init, jax.random.key(1), images)['params']
  rng = np.random.default_rng(2)
  params = jax.tree.map(
    lambda x: rng.normal(0, 0.5, x.shape).astype('f4'), shapes
  )
  if model.scan:
    params = stacking.stack(params)
  direction = jax.tree.map(
    lambda x: rng.normal(0, 0.5, x.shape).astype('f4'), params
  )

  def loss(params):
    logits, _ = model.apply(
      {'params': params},
      images,
      train=True,
      rngs={'dropout': jax.random.key(3)},
    )
    return jnp.mean(jax.nn.log_softmax(logits)[:, 0])

  def along(t):
    return loss(jax.tree.map(lambda p, d: p + t * d, params, direction))

  @jax.jit
  def derivatives():
    _, forward = jax.jvp(loss, (params,), (direction,))
    reverse = jax.tree.map(jnp.vdot, jax.grad(loss)(params), direction)
    slopes = jax.vmap(jax.grad(along))(jnp.array([-1e-2, 1e-2]))
    return {
      'slope': (forward, jax.tree.reduce(jnp.add, reverse)),
      'curvature': (
        jax.hessian(along)(0.0),  # Forward over reverse.
        (slopes[1] - slopes[0]) / 2e-2,
      ),
    }

  found = derivatives()
  forward, reverse = found['slope']
  assert abs(reverse) > 0.01
  np.testing.assert_allclose(forward, reverse, rtol=1e-3)
  hessian, difference = found['curvature']
  np.testing.assert_allclose(hessian, difference, rtol=3e-2)
