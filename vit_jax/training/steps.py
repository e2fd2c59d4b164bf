"""The training step: one pure function for every job.

What differs between jobs is the objective, which gives sums over examples,
so that micro-batches and devices add up to the same gradient as one batch.
"""

from collections.abc import Callable

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree, UInt32
import optax

from vit_jax.training import losses, optim, randomness
from vit_jax.training import state as state_lib

Batch = dict[str, Array]
Metrics = dict[str, tuple[Float[Array, ''], Float[Array, '']]]
Objective = Callable[
  [PyTree, Batch, Key[Array, '']], tuple[Float[Array, ''], Metrics]
]
Stepped = tuple[state_lib.State, Metrics]
Step = Callable[[state_lib.State, Batch], Stepped]
SeededStep = Callable[[state_lib.State, Batch, UInt32[Array, '']], Stepped]


def classification(
  model,
  *,
  num_classes: int,
  loss: str,
  label_smoothing: float = 0.0,
  mixup: float = 0.0,
  class_weights: Float[Array, ' k'] | None = None,
) -> Objective:
  """The supervised objective.

  Args:
    model: gives `(logits, features)`.
    num_classes: k.
    loss: a name in losses.LOSSES.
    label_smoothing: share of probability spread over all classes.
    mixup: alpha of the Beta distribution of MixUp (the BiT recipe has 0.1);
      0 for none. One weight a batch; each image is mixed with its counterpart
      from the end of the batch.
    class_weights: factors of the loss of each class, which should average 1
      over the training examples; None for 1.

  Returns:
    A function of (params, batch, key) to the loss summed over the real
    examples, and (sum, count) pairs of `loss` and `accuracy`.
  """
  per_example_loss = losses.LOSSES[loss]

  def objective(params, batch, key):
    images = batch['image']
    targets = losses.as_targets(batch['label'], num_classes)
    mask = batch['mask']
    if mixup:
      mask *= mask[::-1]  # Nothing is mixed with an example that is missing.
    weights = mask
    if class_weights is not None:
      weights = weights * (targets @ class_weights)
    if mixup:
      key, mixup_key = jax.random.split(key)
      share = jax.random.beta(mixup_key, mixup, mixup)
      images = share * images + (1 - share) * images[::-1]
      targets = share * targets + (1 - share) * targets[::-1]
    logits, _ = model.apply(
      {'params': params}, images, train=True, rngs={'dropout': key}
    )
    smoothed = losses.smooth_labels(targets, label_smoothing)
    loss_sum = jnp.sum(weights * per_example_loss(logits, smoothed))
    correct = jnp.take_along_axis(
      targets, jnp.argmax(logits, axis=-1, keepdims=True), axis=-1
    )[:, 0]
    count = jnp.sum(mask)
    return loss_sum, {
      'loss': (loss_sum, count),
      'accuracy': (jnp.sum(mask * correct), count),
    }

  return objective


def hold(objective: Objective, frozen: PyTree) -> Objective:
  """The objective without gradients for the weights that are `frozen`.

  Args:
    objective: of all weights.
    frozen: True or False for every weight.
  """

  def held(params, batch, key):
    params = jax.tree.map(
      lambda p, is_frozen: lax.stop_gradient(p) if is_frozen else p,
      params,
      frozen,
    )
    return objective(params, batch, key)

  return held


def make_train_step(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  learning_rate: optim.Schedule,
  *,
  accumulate: int = 1,
  ema_decay: float = 0.0,
  lay_out: Callable[[PyTree], PyTree] = lambda grads: grads,
) -> SeededStep:
  """One update of weights, optimiser state and average.

  Args:
    objective: summed loss and metrics, which hold `loss`, of a micro-batch.
    optimizer: turns the gradient of the mean loss into an update.
    learning_rate: reported beside the metrics.
    accumulate: micro-batches a step; must divide the batch.
    ema_decay: of the averaged weights, where the state holds some.
    lay_out: applied to the gradients of every micro-batch, to say where devices
      keep them.

  Returns:
    `(state, batch, seed) -> (state, metrics)`, to be jitted with a donated
    state. The seed is that of the dropout stream, of which every step and
    micro-batch has its own key; as an argument, for all to share one program.
  """
  value_and_grad = jax.value_and_grad(objective, has_aux=True)

  def gradient_sums(params, batch, key):
    def gradients(micro, micro_key):
      (_, metrics), grads = value_and_grad(params, micro, micro_key)
      return lay_out(grads), metrics

    if accumulate == 1:
      return gradients(batch, key)

    def add(sums, inputs):
      index, micro = inputs
      new = gradients(micro, jax.random.fold_in(key, index))
      return jax.tree.map(jnp.add, sums, new), None

    micros = jax.tree.map(lambda x: _split(x, accumulate), batch)
    first = jax.tree.map(lambda x: x[0], micros)
    shapes = jax.eval_shape(gradients, first, key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    sums, _ = lax.scan(add, zeros, (jnp.arange(accumulate), micros))
    return sums

  def train_step(state, batch, seed):
    key = randomness.stream_key(seed, 'dropout', state.step)
    grads, metrics = gradient_sums(state.params, batch, key)
    _, count = metrics['loss']
    grads = jax.tree.map(lambda g: g / count, grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params is not None:
      ema_params = state_lib.update_average(
        ema_params, params, state.step, ema_decay
      )
    one = jnp.ones(())
    metrics |= {
      'grad_norm': (optax.tree.norm(grads), one),
      'learning_rate': (learning_rate(state.step), one),
    }
    return (
      state_lib.State(state.step + 1, params, ema_params, opt_state),
      metrics,
    )

  return train_step


def _split(x: Array, parts: int) -> Array:
  # Every part takes rows from every device's share, so none has to move.
  return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)
