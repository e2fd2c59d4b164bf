"""The supervised loss and the training step, as pure functions.

Every training job runs the same step. Jobs differ in the objective, which
returns sums over examples, so that micro-batches and devices add up to the
gradient of the whole batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree, UInt32
import numpy as np
import optax

from vit_jax.training import optim, randomness
from vit_jax.training import state as state_lib

Batch = dict[str, Array]
Metrics = dict[str, tuple[Float[Array, ''], Float[Array, '']]]
Objective = Callable[
  [PyTree, Batch, Key[Array, '']], tuple[Float[Array, ''], Metrics]
]
Stepped = tuple[state_lib.State, Metrics]
Step = Callable[[state_lib.State, Batch], Stepped]
SeededStep = Callable[[state_lib.State, Batch, UInt32[Array, '']], Stepped]


def softmax_cross_entropy(
  logits: Float[Array, 'b k'], targets: Float[Array, 'b k']
) -> Float[Array, ' b']:
  """Returns -sum_k targets_k log softmax(logits)_k per example, in nats.

  The loss of pre-training on ImageNet and of all fine-tuning.

  Args:
    logits: unnormalized scores.
    targets: class probabilities; each row sums to 1.
  """
  return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)


def sigmoid_cross_entropy(
  logits: Float[Array, 'b k'], targets: Float[Array, 'b k']
) -> Float[Array, ' b']:
  """Returns the binary cross-entropy summed over classes, in nats.

  The loss of pre-training on ImageNet-21k and JFT, where an image may have
  several labels.

  Args:
    logits: one independent score per class.
    targets: 1 for each class in the image and 0 for the others, or smoothed.
  """
  present = jax.nn.log_sigmoid(logits)
  absent = jax.nn.log_sigmoid(-logits)
  return -jnp.sum(targets * present + (1 - targets) * absent, axis=-1)


LOSSES: dict[str, Callable[..., Float[Array, ' b']]] = {
  'softmax': softmax_cross_entropy,
  'sigmoid': sigmoid_cross_entropy,
}


def as_targets(
  labels: Int[Array, ' b'] | Float[Array, 'b k'], num_classes: int
) -> Float[Array, 'b k']:
  """Returns class indices as one-hot rows; multi-label rows are unchanged."""
  if labels.ndim == 1:
    return jax.nn.one_hot(labels, num_classes)
  return labels


def smooth_labels(
  targets: Float[Array, 'b k'], smoothing: float
) -> Float[Array, 'b k']:
  """Spreads a share of each row's probability evenly over all k classes."""
  return targets * (1 - smoothing) + smoothing / targets.shape[-1]


def balanced_weights(counts: np.ndarray) -> np.ndarray:
  """Returns loss weights under which every class contributes equally.

  Args:
    counts: (k,) training examples per class.

  Returns:
    (k,) weights, inversely proportional to the counts, whose average over the
    examples is 1; 0 for a class without examples.
  """
  counts = np.asarray(counts, np.float64)
  classes = np.count_nonzero(counts)
  weights = counts.sum() / (classes * np.maximum(counts, 1))
  return np.where(counts > 0, weights, 0.0).astype(np.float32)


# Loss weights as a function of the training examples per class.
CLASS_WEIGHTS = {'none': lambda counts: None, 'balanced': balanced_weights}


class MixUp(NamedTuple):
  """A form of MixUp, Zhang et al. (2018), arXiv 1710.09412.

  A batch has one weight. Images and targets x become
  weight * x + (1 - weight) * partners(x).

  Attributes:
    partners: maps a batch (b, ...) to the partner of each example.
    weight: maps the draw from the Beta distribution to the weight.
  """

  partners: Callable[[Float[Array, 'b ...']], Float[Array, 'b ...']]
  weight: Callable[[Float[Array, '']], Float[Array, '']]


MIXUPS = {
  'bit': MixUp(partners=lambda x: x[::-1], weight=lambda draw: draw),
  # AugReg, Steiner et al. (2021), arXiv 2106.10270: the partner is the previous
  # example and has the smaller weight.
  'augreg': MixUp(
    partners=lambda x: jnp.roll(x, 1, axis=0),
    weight=lambda draw: jnp.maximum(draw, 1 - draw),
  ),
}


def classification(
  model,
  *,
  num_classes: int,
  loss: str,
  label_smoothing: float = 0.0,
  mixup: float = 0.0,
  mixup_form: str = 'bit',
  class_weights: Float[Array, ' k'] | None = None,
) -> Objective:
  """Returns the supervised objective.

  Args:
    model: returns `(logits, features)`.
    num_classes: k.
    loss: a key of LOSSES.
    label_smoothing: share of the probability spread over all classes.
    mixup: alpha of MixUp's Beta distribution (0.1 in the BiT recipe); 0
      disables MixUp.
    mixup_form: a key of MIXUPS.
    class_weights: weight of each class in the loss; should average 1 over the
      training examples. None weights all classes by 1.

  Returns:
    A function of (params, batch, key) that returns the loss summed over real
    examples, and (sum, count) pairs of `loss` and `accuracy`.
  """
  per_example_loss = LOSSES[loss]
  form = MIXUPS[mixup_form]

  def objective(params, batch, key):
    images = batch['image']
    targets = as_targets(batch['label'], num_classes)
    mask = batch['mask']
    if mixup:
      mask *= form.partners(mask)  # Drops examples whose partner is padding.
    weights = mask
    if class_weights is not None:
      weights = weights * (targets @ class_weights)
    if mixup:
      key, mixup_key = jax.random.split(key)
      weight = form.weight(jax.random.beta(mixup_key, mixup, mixup))
      images = weight * images + (1 - weight) * form.partners(images)
      targets = weight * targets + (1 - weight) * form.partners(targets)
    logits, _ = model.apply(
      {'params': params},
      images,
      train=True,
      tokens=False,
      rngs={'dropout': key},
    )
    smoothed = smooth_labels(targets, label_smoothing)
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


def freeze(objective: Objective, frozen: PyTree) -> Objective:
  """Returns the objective with zero gradients for the frozen weights.

  Args:
    objective: a function of all weights.
    frozen: True or False for every weight.
  """

  def partly_frozen(params, batch, key):
    params = jax.tree.map(
      lambda p, is_frozen: lax.stop_gradient(p) if is_frozen else p,
      params,
      frozen,
    )
    return objective(params, batch, key)

  return partly_frozen


def make_train_step(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  learning_rate: optim.Schedule,
  *,
  accumulate: int = 1,
  ema_decay: float = 0.0,
  ema_ramp: bool = True,
  may_lack_examples: bool = False,
  constrain: Callable[[PyTree], PyTree] = lambda grads: grads,
) -> SeededStep:
  """Returns a function that updates weights, optimizer state and average once.

  Args:
    objective: summed loss, and metrics that include `loss`, of a (micro-)batch.
    optimizer: turns the gradient of the mean loss into an update.
    learning_rate: reported as a metric.
    accumulate: micro-batches per step; must divide the batch size.
    ema_decay: decay of the averaged weights, if the state has them.
    ema_ramp: whether the decay rises to this value; see `update_average`.
    may_lack_examples: whether batches may have no example that counts. Such a
      step advances the step and the learning-rate schedule, and keeps the rest
      of the state. If False, it divides by zero.
    constrain: applied to the gradients of every micro-batch; constrains their
      sharding.

  Returns:
    `(state, batch, seed) -> (state, metrics)`, to be jitted with a donated
    state. Every step and micro-batch gets its own key from the dropout stream
    of the seed. The seed is an argument so that runs with different seeds share
    one compiled program.
  """
  value_and_grad = jax.value_and_grad(objective, has_aux=True)

  def accumulated_gradients(params, batch, key):
    def add(sums, inputs):
      index, micro_batch = inputs
      return jax.tree.map(jnp.add, sums, gradients(index, micro_batch)), None

    def gradients(index, micro_batch):
      micro_key = jax.random.fold_in(key, index)
      (_, metrics), grads = value_and_grad(params, micro_batch, micro_key)
      return constrain(grads), metrics

    micro_batches = jax.tree.map(lambda x: _split(x, accumulate), batch)
    first = jax.tree.map(lambda x: x[0], micro_batches)
    shapes = jax.eval_shape(gradients, 0, first)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    sums, _ = lax.scan(add, zeros, (jnp.arange(accumulate), micro_batches))
    return sums

  def train_step(state, batch, seed):
    key = randomness.stream_key(seed, 'dropout', state.step)
    if accumulate == 1:
      (_, metrics), grads = value_and_grad(state.params, batch, key)
      grads = constrain(grads)
    else:
      grads, metrics = accumulated_gradients(state.params, batch, key)
    _, count = metrics['loss']
    has_examples = count > 0
    if may_lack_examples:
      count = jnp.where(has_examples, count, 1)
    grads = jax.tree.map(lambda g: g / count, grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params is not None:
      ema_params = state_lib.update_average(
        ema_params, params, state.step, decay=ema_decay, ramp=ema_ramp
      )
    one = jnp.ones(())
    metrics |= {
      'grad_norm': (optax.tree.norm(grads), one),
      'learning_rate': (learning_rate(state.step), one),
    }
    new = state_lib.State(state.step + 1, params, ema_params, opt_state)
    if may_lack_examples:
      new = state_lib.keep_unless(has_examples, new, state)
    return new, metrics

  return train_step


def _split(x: Array, parts: int) -> Array:
  # Every micro-batch takes rows from every device, so that no row moves.
  return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)
