import jax
from jax import lax
import jax.numpy as jnp
import pytest

from vit_jax import models
from vit_jax.models import flops

JFT_IMAGES = 303e6


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_a_product_takes_two_operations_to_a_multiply_add():
  assert flops.count(jnp.matmul, shape(3, 5), shape(5, 7)) == 2 * 3 * 5 * 7


def test_a_batched_product_counts_its_batch_once():
  found = flops.count(
    lambda a, b: jnp.einsum('bij,bjk->bik', a, b),
    shape(4, 3, 5),
    shape(4, 5, 7),
  )
  assert found == 2 * 4 * 3 * 5 * 7


def test_a_convolution():
  def function(image, kernel):
    return lax.conv_general_dilated(
      image, kernel, (2, 2), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )

  # 4x4 positions, each of 2x2x3 inputs and 5 outputs.
  assert flops.count(function, shape(1, 8, 8, 3), shape(2, 2, 3, 5)) == (
    2 * 4 * 4 * 2 * 2 * 3 * 5
  )


def test_the_body_of_a_scan_counts_as_often_as_it_runs():
  def function(x, layers):
    return lax.scan(lambda x, w: (x @ w, None), x, layers)[0]

  assert flops.count(function, shape(2, 3), shape(6, 3, 3)) == 6 * 2 * 2 * 3 * 3


def test_rematerialized_products_count_again():
  def loss(x, w):
    return jnp.sum(jnp.sin(x @ w) @ w)

  def gradient(function):
    return jax.grad(function, argnums=(0, 1))

  one = 2 * 4 * 4 * 4
  arguments = shape(4, 4), shape(4, 4)
  # 2 forward and 4 backward; the last product is not needed for its gradient.
  assert flops.count(gradient(loss), *arguments) == 6 * one
  kept = jax.checkpoint(lambda x, w: jnp.sin(x @ w))
  again = lambda x, w: jnp.sum(kept(x, w) @ w)  # noqa: E731
  assert flops.count(gradient(again), *arguments) == 7 * one


def test_a_loop_of_unknown_length_is_refused():
  def function(x):
    return lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x)

  with pytest.raises(ValueError, match='while loop'):
    flops.count(function, shape(3, 3))


def test_a_forward_pass_by_hand():
  model = models.create(
    'ViT-Ti/16', num_classes=0, depth=1, width=8, mlp_dim=16, heads=2
  )
  tokens, width, mlp = 5, 8, 16  # 32x32 px, and the class token.
  multiply_adds = (
    4 * 16 * 16 * 3 * width  # Embedding.
    + 4 * tokens * width * width  # Queries, keys, values, output.
    + 2 * tokens * tokens * width  # Similarities, and the sum of values.
    + 2 * tokens * width * mlp
  )
  assert flops.forward(model, (32, 32)) == 2 * multiply_adds


@pytest.mark.parametrize(
  ('name', 'epochs', 'exaflops'),
  [
    ('ViT-B/32', 7, 55),
    ('ViT-B/16', 7, 224),
    ('ViT-L/32', 7, 196),
    ('ViT-L/16', 7, 783),
    ('ViT-L/16', 14, 1567),
    ('ViT-H/14', 14, 4262),
  ],
)
def test_table_6(name, epochs, exaflops):
  model = models.create(name, num_classes=0)
  found = flops.training_exaflops(
    flops.forward(model, (224, 224)), epochs * JFT_IMAGES
  )
  assert found == pytest.approx(exaflops, rel=0.025)


@pytest.mark.parametrize('name', ['ViT-B/32', 'ViT-B/16', 'ViT-L/16'])
def test_the_compiler_counts_little_more(name):
  model = models.create(name, num_classes=0)
  rule = flops.forward(model, (224, 224))
  counted = flops.forward_as_compiled(model, (224, 224))
  assert rule < counted < 1.05 * rule


def test_the_compiler_cannot_count_a_scan():
  model = models.create('ViT-Ti/16', num_classes=0, scan=True)
  with pytest.raises(ValueError, match='scan=False'):
    flops.forward_as_compiled(model, (32, 32))
