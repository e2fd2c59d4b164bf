"""Exact classification metrics: every example counts once, padding never."""

from collections.abc import Callable, Iterable, Iterator
import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree
import numpy as np

from vit_jax.training import losses, steps

EvalStep = Callable[[PyTree, steps.Batch], dict[str, Array]]


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What a model says of each example, in the order of the examples.

  Attributes:
    index: (n,) position of the example in its source.
    predicted: (n,) the class with the largest logit.
    probability: (n,) the model's probability of that class.
    correct: (n,) whether the example has that label.
    loss: (n,) in nats.
    label: (n,) class numbers or (n, k) rows of zeros and ones.
  """

  index: np.ndarray
  predicted: np.ndarray
  probability: np.ndarray
  correct: np.ndarray
  loss: np.ndarray
  label: np.ndarray

  def metrics(self) -> dict[str, float]:
    """Mean loss and top-1 accuracy (a share in [0, 1])."""
    count = len(self.index)
    return {
      'loss': float(np.sum(self.loss, dtype=np.float64) / count),
      'accuracy': int(np.sum(self.correct)) / count,
    }

  def class_accuracy(self, num_classes: int) -> list[float | None]:
    """Top-1 accuracy of the examples of each class; None where are none."""
    members = [
      self.label == k if self.label.ndim == 1 else self.label[:, k] > 0
      for k in range(num_classes)
    ]
    return [
      float(np.mean((self.predicted == k)[of_class]))
      if of_class.any()
      else None
      for k, of_class in enumerate(members)
    ]


PROBABILITIES = {'softmax': jax.nn.softmax, 'sigmoid': jax.nn.sigmoid}


def make_eval_step(model, *, num_classes: int, loss: str) -> EvalStep:
  """A function of (params, batch) to values of each example; to be jitted.

  Args:
    model: gives `(logits, features)`.
    num_classes: k.
    loss: a name in losses.LOSSES; it also says what a probability is.
  """

  def eval_step(params, batch):
    logits, _ = model.apply({'params': params}, batch['image'], train=False)
    targets = losses.as_targets(batch['label'], num_classes)
    predicted = jnp.argmax(logits, axis=-1)

    def at_predicted(values):
      return jnp.take_along_axis(values, predicted[:, None], axis=-1)[:, 0]

    return {
      'predicted': predicted,
      'probability': at_predicted(PROBABILITIES[loss](logits)),
      'correct': at_predicted(targets) > 0,
      'loss': losses.LOSSES[loss](logits, targets),
    }

  return eval_step


def predict(
  eval_step: EvalStep,
  params: PyTree,
  batches: Iterable[dict[str, np.ndarray]],
  put: Callable[[dict[str, np.ndarray]], steps.Batch],
) -> Predictions:
  """Runs the model over one pass of `batches` and drops the padding.

  Args:
    eval_step: jitted.
    params: weights on the devices.
    batches: one pass, with `image`, `label`, `mask` and `index`.
    put: moves a batch to the devices.
  """
  parts = list(_real_rows(eval_step, params, batches, put))
  merged = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
  return Predictions(**merged)


def _real_rows(eval_step, params, batches, put) -> Iterator[dict]:
  waiting = None
  for batch in batches:
    on_device = put({k: batch[k] for k in ('image', 'label')})
    running = batch, eval_step(params, on_device)
    if waiting:
      yield _fetch(*waiting)
    waiting = running  # The next batch is prepared while this one computes.
  if waiting:
    yield _fetch(*waiting)


def _fetch(batch, outputs) -> dict[str, np.ndarray]:
  real = batch['mask'] > 0
  rows = jax.device_get(outputs) | {k: batch[k] for k in ('index', 'label')}
  return {name: values[real] for name, values in rows.items()}
