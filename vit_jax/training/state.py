"""What changes from step to step."""

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree
import optax


@flax.struct.dataclass
class State:
  """The state of a training run; all of it is in a checkpoint.

  Attributes:
    step: steps taken.
    params: the weights.
    ema_params: their Polyak average, or None where none is kept.
    opt_state: the optimiser's own state.
  """

  step: Int[Array, '']
  params: PyTree
  ema_params: PyTree | None
  opt_state: optax.OptState


def create(
  params: PyTree, optimizer: optax.GradientTransformation, *, average: bool
) -> State:
  """The state at step 0; the average starts as a copy of the weights."""
  return State(
    step=jnp.zeros((), jnp.int32),
    params=params,
    ema_params=jax.tree.map(jnp.copy, params) if average else None,
    opt_state=optimizer.init(params),
  )


def update_average(
  average: PyTree, params: PyTree, step: Int[Array, ''], decay: float
) -> PyTree:
  """Polyak averaging with a ramp: decay_t = min(decay, (1 + t) / (10 + t)).

  The ramp lets the average of a short run forget its initialisation; the
  paper's decay of 0.9999 (section 4.1) is reached after 90,000 steps.

  Args:
    average: the average of the weights up to step t - 1.
    params: the weights after step t.
    step: t, counted from 0.
    decay: what remains of the old average in each step.
  """
  step = step.astype(jnp.float32)
  decay = jnp.minimum(decay, (1 + step) / (10 + step))
  return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)
