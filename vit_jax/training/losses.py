"""Per-example classification losses.

Softmax cross-entropy is the loss of pre-training on ImageNet and of all
fine-tuning; sigmoid cross-entropy, summed over classes, that of pre-training
on ImageNet-21k and JFT, where an image may have several labels.

Every function returns one value per example; callers mask, sum and divide.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np


def softmax_cross_entropy(
  logits: Float[Array, 'b k'], targets: Float[Array, 'b k']
) -> Float[Array, ' b']:
  """-sum_k targets_k log softmax(logits)_k of each example, in nats.

  Args:
    logits: unnormalised scores.
    targets: class probabilities; each row sums to one.
  """
  return -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)


def sigmoid_cross_entropy(
  logits: Float[Array, 'b k'], targets: Float[Array, 'b k']
) -> Float[Array, ' b']:
  """Binary cross-entropy of each class, summed over classes, in nats.

  Args:
    logits: one independent score a class.
    targets: 1 for each class that an image shows, else 0 (or smoothed).
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
  """Class numbers as one-hot rows; rows of several classes stay as they are."""
  if labels.ndim == 1:
    return jax.nn.one_hot(labels, num_classes)
  return labels


def smooth_labels(
  targets: Float[Array, 'b k'], smoothing: float
) -> Float[Array, 'b k']:
  """Moves a share of each row's probability evenly onto all k classes."""
  return targets * (1 - smoothing) + smoothing / targets.shape[-1]


def balanced_weights(counts: np.ndarray) -> np.ndarray:
  """Factors of the loss that make all classes count alike.

  Args:
    counts: (k,) examples of each class.

  Returns:
    (k,) weights, inverse to the counts, that average 1 over the examples; 0
    for a class without examples.
  """
  counts = np.asarray(counts, np.float64)
  classes = np.count_nonzero(counts)
  weights = counts.sum() / (classes * np.maximum(counts, 1))
  return np.where(counts > 0, weights, 0.0).astype(np.float32)
