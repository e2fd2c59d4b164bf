"""The state of a training run, and the average of its weights."""

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree
import optax


@flax.struct.dataclass
class State:
  """Everything that a step changes; checkpoints hold all of it.

  Attributes:
    step: number of steps taken.
    params: the weights.
    ema_params: Polyak average of the weights; None if none is kept.
    opt_state: the optimizer's state.
  """

  step: Int[Array, '']
  params: PyTree
  ema_params: PyTree | None
  opt_state: optax.OptState


def create(
  params: PyTree, optimizer: optax.GradientTransformation, *, average: bool
) -> State:
  """Returns the state at step 0; the average starts as a copy of `params`."""
  return State(
    step=jnp.zeros((), jnp.int32),
    params=params,
    ema_params=jax.tree.map(jnp.copy, params) if average else None,
    opt_state=optimizer.init(params),
  )


def update_average(
  average: PyTree,
  params: PyTree,
  step: Int[Array, ''],
  *,
  decay: float,
  ramp: bool = True,
) -> PyTree:
  """Updates a Polyak average: average += (1 - decay) * (params - average).

  Args:
    average: average of the weights up to step t - 1.
    params: weights after step t.
    step: t, counted from 0.
    decay: share of the old average that each step keeps; 0.9999 in the paper
      (section 4.1).
    ramp: whether the decay is at most (1 + t) / (10 + t). The average of a
      short run then forgets the initial weights; 0.9999 is reached after 90,000
      steps.
  """
  if ramp:
    step = step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
  return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)


def keep_unless(has_examples: Bool[Array, ''], new: State, old: State) -> State:
  """Returns the new state, or the old one after a step without examples.

  The step advances in either case, and so does the count of the learning-rate
  schedule, which would lag behind the step otherwise.
  """

  def is_schedule(node):
    return isinstance(node, optax.ScaleByScheduleState)

  def choose(new, old):
    return new if is_schedule(new) else jnp.where(has_examples, new, old)

  kept = jax.tree.map(choose, new, old, is_leaf=is_schedule)
  return kept.replace(step=new.step)
