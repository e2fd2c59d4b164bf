"""The optimizer of a config, and the weights that it leaves alone."""

from jaxtyping import PyTree
import ml_collections
import optax

from vit_jax import config as config_lib
from vit_jax.training import optim


def frozen_weights(config: ml_collections.ConfigDict, params: PyTree) -> PyTree | None:
  """True for every weight that `optim.freeze` matches; None without one.

  Raises:
    ValueError: if it matches no weight, or all.
  """
  if not config.optim.freeze:
    return None
  return optim.is_frozen(params, config.optim.freeze)


def create_optimizer(
  config: ml_collections.ConfigDict,
  total_steps: int,
  frozen: PyTree | None = None,
) -> tuple[optax.GradientTransformation, optim.Schedule]:
  """The optimiser and its learning rate by step."""
  c = config.optim
  learning_rate = optim.schedule(
    c.schedule,
    lr=c.lr,
    total_steps=total_steps,
    warmup_steps=config_lib.warmup_steps(config, total_steps),
    boundaries=c.boundaries,
  )
  built = optim.create(
    c.name,
    learning_rate,
    b1=c.b1,
    b2=c.b2,
    momentum=c.momentum,
    mu_dtype=c.mu_dtype,
    weight_decay=c.weight_decay,
    clip_norm=c.clip_norm,
    frozen=frozen,
  )
  return built, learning_rate
