"""Optimizers and learning-rate schedules (Appendix B.1, Tables 3 and 4)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree
import optax

from vit_jax.training import path_patterns

Schedule = Callable[[Int[Array, '']], Float[Array, '']]

LINEAR_END = 1e-5  # Final learning rate of the linear decay.


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
  """Returns a schedule with linear warm-up from 0 to `lr`, followed by decay.

  Args:
    name: a key of DECAYS; 'steps' is constant between the boundaries.
    lr: learning rate at the end of the warm-up.
    total_steps: length of the run, including the warm-up.
    warmup_steps: less than total_steps; 0 starts at `lr`.
    boundaries: steps after which the rate is divided by 10 (the BiT-HyperRule).

  Returns:
    A function from the number of completed steps to the learning rate of the
    next update.
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
  """Returns True for kernels; False for tokens, positions, biases and norms."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: getattr(path[-1], 'key', None) == 'kernel', params
  )


def is_frozen(params: PyTree, pattern: str) -> PyTree:
  """Returns True for every weight whose path, such as 'head/kernel', matches.

  Args:
    params: the weights.
    pattern: a regular expression that must match the whole path; `(?!head/).*`
      matches all weights except the head, for a linear probe.

  Raises:
    ValueError: if the pattern matches no weight or every weight, or takes too
      long to match.
  """
  names = path_patterns.names(params)
  frozen = path_patterns.full_matches('optim.freeze', pattern, names)
  if len(set(frozen)) == 1:
    matched = 'every weight' if frozen[0] else 'no weight'
    raise ValueError(
      f'optim.freeze={pattern!r} matches {matched}; {path_patterns.ADVICE}'
    )
  return jax.tree.structure(params).unflatten(frozen)


def create(
  name: str,
  learning_rate: Schedule,
  *,
  b1: float = 0.9,
  b2: float = 0.999,
  momentum: float = 0.9,
  mu_dtype: str = 'float32',
  weight_decay: float = 0.0,
  coupled_decay: bool = False,
  clip_norm: float = 0.0,
  frozen: PyTree | None = None,
  lr_factors: PyTree | None = None,
) -> optax.GradientTransformation:
  """Returns the optimizer: clipping, Adam or SGD, weight decay, learning rate.

  The update is `-lr(t) * (direction + weight_decay * kernel)`: weight decay is
  decoupled, follows the schedule and applies only to kernels. Coupled weight
  decay is added to the gradient instead, which is L2 regularization; SGD with a
  momentum of 0.9 then decays weights 10 times as much.

  Args:
    name: a key of OPTIMIZERS.
    learning_rate: the schedule.
    b1: decay of Adam's first moment.
    b2: decay of Adam's second moment.
    momentum: decay of SGD's accumulated gradient.
    mu_dtype: dtype of Adam's first moment or SGD's accumulated gradient;
      bfloat16 halves its memory.
    weight_decay: coefficient before multiplication by the learning rate.
    coupled_decay: whether weight decay is added to the clipped gradient.
    clip_norm: maximum global norm of the gradient; 0 disables clipping.
    frozen: True for every weight that is never updated; None for none.
    lr_factors: factors of the learning rate, arrays that broadcast to the
      weights; None for 1.
  """
  parts = [OPTIMIZERS[name](b1=b1, b2=b2, momentum=momentum, mu_dtype=mu_dtype)]
  if weight_decay:
    decay = optax.add_decayed_weights(weight_decay, mask=is_kernel)
    parts.insert(0 if coupled_decay else 1, decay)
  if clip_norm:
    parts.insert(0, optax.clip_by_global_norm(clip_norm))
  parts.append(optax.scale_by_learning_rate(learning_rate))
  optimizer = optax.chain(*parts)
  if frozen is not None:
    optimizer = optax.partition(
      {True: optax.set_to_zero(), False: optimizer}, frozen
    )
  if lr_factors is not None:
    scale = optax.stateless(
      lambda updates, params: jax.tree.map(jnp.multiply, updates, lr_factors)
    )
    optimizer = optax.chain(optimizer, scale)
  return optimizer
