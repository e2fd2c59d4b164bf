"""Exact classification metrics: every example counts once, padding never."""

from collections.abc import Callable, Iterable, Iterator
import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
import numpy as np

from vit_jax.distributed import processes
from vit_jax.training import steps

EvalStep = Callable[[PyTree, steps.Batch], dict[str, Array]]


TOP = 5


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What a model says of each example, in the order of the examples.

  Attributes:
    index: (n,) position of the example in its source.
    top_classes: (n, min(5, k)) the classes with the largest logits, largest
      first.
    top_probabilities: (n, min(5, k)) the model's probabilities of these.
    label: (n,) class numbers or (n, k) rows of zeros and ones.
    loss: (n,) in nats; None where the labels define none.
  """

  index: np.ndarray
  top_classes: np.ndarray
  top_probabilities: np.ndarray
  label: np.ndarray
  loss: np.ndarray | None = None

  @property
  def predicted(self) -> np.ndarray:
    """(n,) the class with the largest logit."""
    return self.top_classes[:, 0]

  @property
  def probability(self) -> np.ndarray:
    """(n,) the model's probability of that class."""
    return self.top_probabilities[:, 0]

  @property
  def correct(self) -> np.ndarray:
    """(n, min(5, k)) whether the example has that label."""
    if self.label.ndim == 1:
      return self.top_classes == self.label[:, None]
    return np.take_along_axis(self.label, self.top_classes, axis=1) > 0

  @property
  def labelled(self) -> np.ndarray:
    """(n,) whether the example has a label at all."""
    if self.label.ndim == 1:
      return np.ones(len(self.label), bool)
    return self.label.any(axis=1)

  def metrics(self, num_classes: int) -> dict[str, float]:
    """Mean loss in nats, if there is one, and accuracy, a share in [0, 1].

    `accuracy` is the share of examples whose first class is right;
    `top5_accuracy`, of those that have a right one among five, is there for
    more than five classes. Examples without labels count in neither part.

    Raises:
      ValueError: if no example has a label.
    """
    metrics = {}
    if self.loss is not None:
      mean = np.sum(self.loss, dtype=np.float64) / len(self.loss)
      metrics['loss'] = float(mean)
    correct = self.correct[self.labelled]
    if not len(correct):
      raise ValueError(
        f'none of {len(self.index)} examples has a label, so that there is no'
        ' accuracy; choose a split with labels.'
      )
    metrics['accuracy'] = int(correct[:, 0].sum()) / len(correct)
    if num_classes > TOP:
      metrics['top5_accuracy'] = int(correct.any(axis=1).sum()) / len(correct)
    return metrics

  def class_counts(self, num_classes: int) -> np.ndarray:
    """(k,) examples of each class."""
    if self.label.ndim == 1:
      return np.bincount(self.label, minlength=num_classes)
    return np.sum(self.label > 0, axis=0)

  def class_accuracy(self, num_classes: int) -> list[float | None]:
    """Top-1 accuracy of the examples of each class; None where are none."""
    counts = self.class_counts(num_classes)
    hits = np.bincount(
      self.predicted[self.correct[:, 0]], minlength=num_classes
    )
    return [
      int(hit) / int(count) if count else None
      for hit, count in zip(hits, counts, strict=True)
    ]


PROBABILITIES = {'softmax': jax.nn.softmax, 'sigmoid': jax.nn.sigmoid}


def make_eval_step(
  model,
  *,
  loss: str,
  project: Callable[[Array], Array] | None = None,
) -> EvalStep:
  """A function of (params, batch) to values of each example; to be jitted.

  Args:
    model: gives `(logits, features)`.
    loss: a name in steps.LOSSES; it also says what a probability is.
      Softmax has no loss for several labels.
    project: from the model's logits (b, j) to those of the k classes that the
      labels are of; None where they are the model's.
  """

  def eval_step(params, batch):
    logits, _ = model.apply({'params': params}, batch['image'], train=False)
    if project is not None:
      logits = project(logits)
    return top_classes(logits, loss=loss) | _losses(logits, batch['label'])

  def _losses(logits, labels):
    if labels.ndim == 2 and loss == 'softmax':
      return {}
    targets = steps.as_targets(labels, logits.shape[-1])
    return {'loss': steps.LOSSES[loss](logits, targets)}

  return eval_step


def top_classes(
  logits: Float[Array, 'b k'], *, loss: str, count: int = TOP
) -> dict[str, Array]:
  """The classes with the largest logits, and their probabilities.

  Args:
    logits: of k classes.
    loss: a key of PROBABILITIES.
    count: how many, or k if there are fewer.

  Returns:
    `top_classes` and `top_probabilities`, largest first; of equal logits, that
    of the lower class number comes first.
  """
  _, classes = jax.lax.top_k(logits, min(count, logits.shape[-1]))
  values = PROBABILITIES[loss](logits)
  probabilities = jnp.take_along_axis(values, classes, axis=-1)
  return {'top_classes': classes, 'top_probabilities': probabilities}


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
  return Predictions(**real_rows(eval_step, params, batches, put))


def real_rows(
  eval_step: EvalStep,
  params: PyTree,
  batches: Iterable[dict[str, np.ndarray]],
  put: Callable[[dict[str, np.ndarray]], steps.Batch],
) -> dict[str, np.ndarray]:
  """What the step gives for each example, its `index` and its `label`.

  Arguments are those of `predict`. Every process gets the examples of all, in
  their order; padding is dropped.
  """
  parts = list(_parts(eval_step, params, batches, put))
  rows = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
  order = np.argsort(rows['index'])
  return {name: values[order] for name, values in rows.items()}


def _parts(eval_step, params, batches, put) -> Iterator[dict]:
  waiting = None
  for batch in batches:
    inputs = {k: batch[k] for k in ('image', 'label', 'mask')}
    inputs['index'] = batch['index'].astype(np.int32)
    on_device = put(inputs)
    told = {k: on_device[k] for k in ('index', 'label', 'mask')}
    running = eval_step(params, on_device) | told
    if waiting:
      yield _fetch(waiting)
    waiting = running  # The next batch is prepared while this one computes.
  if waiting:
    yield _fetch(waiting)


def _fetch(outputs) -> dict[str, np.ndarray]:
  rows = processes.fetch(outputs)
  real = rows.pop('mask') > 0
  return {name: values[real] for name, values in rows.items()}
