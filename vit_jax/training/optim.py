"""Optimisers and learning-rate schedules (Appendix B.1, Tables 3 and 4)."""

from collections.abc import Callable, Sequence
import re

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree
import optax

Schedule = Callable[[Int[Array, '']], Float[Array, '']]

LINEAR_END = 1e-5  # Where pre-training's linear decay stops.


def _linear(lr: float, progress: Float[Array, '']) -> Float[Array, '']:
  return LINEAR_END + (lr - LINEAR_END) * (1 - progress)


def _cosine(lr: float, progress: Float[Array, '']) -> Float[Array, '']:
  return lr * 0.5 * (1 + jnp.cos(jnp.pi * progress))


def _constant(lr: float, progress: Float[Array, '']) -> Float[Array, '']:
  return lr + 0 * progress


DECAYS = {'linear': _linear, 'cosine': _cosine, 'steps': _constant}


def schedule(
  name: str,
  *,
  lr: float,
  total_steps: int,
  warmup_steps: int,
  boundaries: Sequence[int] = (),
) -> Schedule:
  """Linear warm-up from 0 to `lr`, then decay until the last step.

  Args:
    name: a decay in DECAYS; 'steps' stays at `lr` between the boundaries.
    lr: learning rate at the end of the warm-up.
    total_steps: length of the run, warm-up included.
    warmup_steps: less than total_steps; 0 starts at `lr`.
    boundaries: steps after which the rate is a tenth of what it was (the
      BiT-HyperRule).

  Returns:
    The learning rate of the update that follows `step` finished ones.
  """
  decay = DECAYS[name]

  def learning_rate(step):
    step = jnp.asarray(step, jnp.float32)
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    warmup = jnp.minimum(1.0, step / max(warmup_steps, 1))
    if not warmup_steps:
      warmup = 1.0
    rate = warmup * decay(lr, jnp.clip(progress, 0.0, 1.0))
    for boundary in boundaries:
      rate = jnp.where(step > boundary, 0.1 * rate, rate)
    return rate

  return learning_rate


def _adam(
  b1: float, b2: float, momentum: float, mu_dtype: str
) -> optax.GradientTransformation:
  del momentum
  return optax.scale_by_adam(b1=b1, b2=b2, mu_dtype=mu_dtype)


def _sgd(
  b1: float, b2: float, momentum: float, mu_dtype: str
) -> optax.GradientTransformation:
  del b1, b2
  return optax.trace(decay=momentum, accumulator_dtype=mu_dtype)


OPTIMIZERS = {'adam': _adam, 'sgd': _sgd}


def is_kernel(params: PyTree) -> PyTree:
  """True for every kernel: class token, positions, biases and norms are not."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: getattr(path[-1], 'key', None) == 'kernel', params
  )


def is_frozen(params: PyTree, pattern: str) -> PyTree:
  """True for every weight whose path, such as 'head/kernel', matches.

  Args:
    params: the weights.
    pattern: a regular expression for whole paths; `(?!head/).*` is all but the
      head, which makes a linear probe.

  Raises:
    ValueError: if it matches no weight, or all.
  """
  expression = re.compile(pattern)
  frozen = jax.tree_util.tree_map_with_path(
    lambda path, _: bool(
      expression.fullmatch('/'.join(entry.key for entry in path))
    ),
    params,
  )
  found = set(jax.tree.leaves(frozen))
  if len(found) == 1:
    what = 'every weight' if found == {True} else 'no weight'
    raise ValueError(
      f'the pattern {pattern!r} of weights to freeze matches {what}; it is a'
      " regular expression for whole paths such as 'head/kernel' or"
      " 'Transformer/encoderblock_0/LayerNorm_0/scale'."
    )
  return frozen


def create(
  name: str,
  learning_rate: Schedule,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  momentum: float = 0.9,
  mu_dtype: str = 'float32',
  weight_decay: float = 0.0,
  clip_norm: float = 0.0,
  frozen: PyTree | None = None,
) -> optax.GradientTransformation:
  """Clipping, Adam or SGD, decoupled weight decay, learning rate.

  The update is `-lr(t) * (direction + weight_decay * kernel)`: decay follows
  the schedule and touches kernels alone.

  Args:
    name: 'adam' or 'sgd'.
    learning_rate: the schedule.
    b1: Adam's decay of the gradients' mean.
    b2: Adam's decay of the gradients' square.
    momentum: decay of SGD's accumulated gradients.
    mu_dtype: type in which Adam's mean or SGD's accumulated gradients are kept;
      bfloat16 saves half of their memory.
    weight_decay: not yet multiplied by the learning rate.
    clip_norm: largest global norm of the gradient; 0 for no clipping.
    frozen: True for every weight that is never updated; None for none.
  """
  parts = [OPTIMIZERS[name](b1=b1, b2=b2, momentum=momentum, mu_dtype=mu_dtype)]
  if clip_norm:
    parts.insert(0, optax.clip_by_global_norm(clip_norm))
  if weight_decay:
    parts.append(optax.add_decayed_weights(weight_decay, mask=is_kernel))
  parts.append(optax.scale_by_learning_rate(learning_rate))
  optimizer = optax.chain(*parts)
  if frozen is None:
    return optimizer
  return optax.partition({True: optax.set_to_zero(), False: optimizer}, frozen)
