"""Models and training steps of this package, without data or config."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from vit_jax import models
from vit_jax.distributed import cpu
from vit_jax.models import stacking
from vit_jax.training import optim, steps
from vit_jax.training import state as state_lib

NUM_CLASSES = 1000
LR = 0.01


def create(name: str, **options):
  """Creates a model with a head for ImageNet."""
  return models.create(name, num_classes=NUM_CLASSES, **options)


def random_params(name: str, image_size: int, scan: bool, **options):
  """Returns random parameters; to be jitted."""
  image = jnp.zeros((1, image_size, image_size, 3))
  params = create(name, **options).init(jax.random.key(0), image)['params']
  return stacking.stack(params) if scan else params


def batch(batch_size: int, image_size: int) -> dict[str, jax.Array]:
  """Returns a batch of random images and labels."""
  shape = (batch_size, image_size, image_size, 3)
  return {
    'image': jax.random.uniform(jax.random.key(1), shape, minval=-1, maxval=1),
    'label': jax.random.randint(jax.random.key(2), shape[:1], 0, NUM_CLASSES),
    'mask': jnp.ones(batch_size),
  }


def compile_step(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
  """Compiles a step as a training run does."""
  on_cpu = jax.default_backend() == 'cpu'
  return cpu.compile_step(lowered) if on_cpu else lowered.compile()


def training(
  name: str,
  *,
  image_size: int,
  optimizer: str = 'sgd',
  average: bool = False,
  scan: bool = False,
  remat: str = 'none',
  dtype: str = 'float32',
) -> tuple[Callable[[], state_lib.State], steps.Step]:
  """Returns a function that creates a state, and the step; both to be jitted.

  Args:
    name: model name, such as 'ViT-B/16'.
    image_size: side in px.
    optimizer: a key of `optim.OPTIMIZERS`.
    average: whether to keep averaged weights.
    scan: see `models.create`, as for the next two.
    remat: what to keep for the backward pass.
    dtype: type of the activations.
  """
  learning_rate = optim.schedule(
    'cosine', lr=LR, total_steps=10_000, warmup_steps=100
  )
  update = optim.create(optimizer, learning_rate)
  model = create(name, scan=scan, remat=remat, dtype=dtype)
  objective = steps.classification(
    model, num_classes=NUM_CLASSES, loss='softmax'
  )
  step = steps.make_train_step(
    objective,
    update,
    learning_rate,
    ema_decay=0.9999 if average else 0.0,
  )
  init = functools.partial(random_params, name, image_size, scan)
  seeded = functools.partial(step, seed=jnp.uint32(0))
  return lambda: state_lib.create(init(), update, average=average), seeded
