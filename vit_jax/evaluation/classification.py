"""Exact classification metrics: each example counts once, padding never."""

from collections.abc import Callable, Iterable, Iterator
import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree
import numpy as np

from vit_jax.checkpoints import finite
from vit_jax.distributed import processes
from vit_jax.evaluation import multi_label
from vit_jax.training import steps

EvalStep = Callable[[PyTree, steps.Batch], dict[str, Array]]
# One pass over a dataset, with `image`, `label`, `mask` and `index`.
Batches = Iterable[dict[str, np.ndarray]]
Put = Callable[[dict[str, np.ndarray]], steps.Batch]  # Puts it on devices.
TOP = 5

ADVICE = '; check the weights, and try model.dtype=float32.'


@dataclasses.dataclass(frozen=True)
class Predictions:
  """Predictions of a model for each example, ordered by example.

  Attributes:
    index: (n,) position of the example in its source.
    top_classes: (n, min(5, k)) classes with the largest logits, in descending
      order.
    top_probabilities: (n, min(5, k)) probabilities of these classes.
    label: (n,) class numbers, or (n, k) whether each class is a label.
    loss: (n,) in nats; None if the loss is not defined for the labels.
    logits: (n, k), for multi-label metrics; None if these are not computed.
    threshold: with `logits`, the probability above which a label is predicted.
  """

  index: np.ndarray
  top_classes: np.ndarray
  top_probabilities: np.ndarray
  label: np.ndarray
  loss: np.ndarray | None = None
  logits: np.ndarray | None = None
  threshold: float = 0.5

  @property
  def predicted(self) -> np.ndarray:
    """The class with the largest logit, (n,)."""
    return self.top_classes[:, 0]

  @property
  def probability(self) -> np.ndarray:
    """The probability of the predicted class, (n,)."""
    return self.top_probabilities[:, 0]

  @property
  def correct(self) -> np.ndarray:
    """Whether each top class is a label of its example, (n, min(5, k))."""
    if self.label.ndim == 1:
      return self.top_classes == self.label[:, None]
    return np.take_along_axis(self.label, self.top_classes, axis=1) > 0

  @property
  def labelled(self) -> np.ndarray:
    """Whether the example has any label, (n,)."""
    if self.label.ndim == 1:
      return np.ones(len(self.label), bool)
    return self.label.any(axis=1)

  def metrics(self, num_classes: int) -> dict[str, float]:
    """Returns the mean loss in nats, if defined, and accuracies in [0, 1].

    `accuracy` is the fraction of examples whose predicted class is correct.
    With more than five classes, `top5_accuracy` is the fraction with a correct
    class among the top five. Both ignore examples without labels. With logits,
    those of `multi_label.ClassScores.metrics` are added.

    Raises:
      ValueError: if no example has a label.
    """
    metrics = {}
    if self.loss is not None:
      metrics['loss'] = float(np.mean(self.loss, dtype=np.float64))
    correct = self.correct[self.labelled]
    if not len(correct):
      raise ValueError(
        'no example has a label, so accuracy is not defined; choose a split'
        ' with labels.'
      )
    metrics['accuracy'] = int(correct[:, 0].sum()) / len(correct)
    if num_classes > TOP:
      metrics['top5_accuracy'] = int(correct.any(axis=1).sum()) / len(correct)
    if self.logits is not None:
      metrics |= self._class_scores.metrics()
    return metrics

  def by_class(self, num_classes: int) -> dict[str, list[float | None]]:
    """Returns the metrics of single classes; None if there are no examples.

    These are `accuracy` and, with logits, `average_precision`.
    """
    metrics = {'accuracy': self.class_accuracy(num_classes)}
    if self.logits is not None:
      metrics['average_precision'] = self._class_scores.average_precision
    return metrics

  @functools.cached_property
  def _class_scores(self) -> multi_label.ClassScores:
    return multi_label.score_classes(self.label, self.logits, self.threshold)

  def class_counts(self, num_classes: int) -> np.ndarray:
    """Returns the number of examples of each class, (k,)."""
    if self.label.ndim == 1:
      return np.bincount(self.label, minlength=num_classes)
    return np.sum(self.label > 0, axis=0)

  def class_accuracy(self, num_classes: int) -> list[float | None]:
    """Returns the top-1 accuracy for each class; None without examples."""
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
  with_logits: bool = False,
) -> EvalStep:
  """Returns a function from (params, batch) to values per example.

  Args:
    model: returns `(logits, features)`.
    loss: key of `steps.LOSSES`, which also determines how probabilities are
      computed. The softmax loss is not defined for multiple labels per example.
    project: maps the model's logits (b, j) to those of the k classes of the
      labels; None if these are the model's classes.
    with_logits: whether the values include all logits.
  """

  def eval_step(params, batch):
    logits, _ = model.apply({'params': params}, batch['image'], tokens=False)
    if project is not None:
      logits = project(logits)
    outputs = top_classes(logits, loss=loss)
    if with_logits:
      outputs['logits'] = logits.astype(jnp.float32)
    if batch['label'].ndim == 1 or loss != 'softmax':
      targets = steps.as_targets(batch['label'], logits.shape[-1])
      outputs['loss'] = steps.LOSSES[loss](logits, targets)
    return outputs

  return eval_step


def top_classes(
  logits: Float[Array, 'b k'], *, loss: str, count: int = TOP
) -> dict[str, Array]:
  """Returns the classes with the largest logits, and their probabilities.

  The keys are `top_classes` and `top_probabilities`, (b, min(count, k)), in
  descending order; of equal logits, the lower class number comes first. `loss`
  is a key of PROBABILITIES.
  """
  _, classes = jax.lax.top_k(logits, min(count, logits.shape[-1]))
  values = PROBABILITIES[loss](logits)
  probabilities = jnp.take_along_axis(values, classes, axis=-1)
  return {'top_classes': classes, 'top_probabilities': probabilities}


def predict(
  eval_step: EvalStep,
  params: PyTree,
  batches: Batches,
  put: Put,
  *,
  threshold: float = 0.5,
) -> Predictions:
  """Evaluates a model on a dataset; see `collect` and `Predictions`."""
  rows = collect(eval_step, params, batches, put)
  return Predictions(**rows, threshold=threshold)


def collect(
  eval_step: EvalStep, params: PyTree, batches: Batches, put: Put
) -> dict[str, np.ndarray]:
  """Returns the outputs of a step for each example, with `index` and `label`.

  Every process returns the examples of all processes, ordered by index and
  without padding. The step is jitted, and the weights are on the devices. Rows
  of labels are returned as booleans.

  Raises:
    finite.NonFiniteError: if an output is NaN or infinite.
    ValueError: if the mask of every row is 0.
  """
  parts = list(batch_outputs(eval_step, params, batches, put))
  # Frees the parts of each array once they are joined.
  rows = {
    name: np.concatenate([part.pop(name) for part in parts])
    for name in list(parts[0])
  }
  order = np.argsort(rows['index'])
  if not len(order):
    raise ValueError(
      'none of the images to evaluate can be read; the log lists them.'
    )
  if np.any(np.diff(order) < 0):  # Otherwise, saves a copy of all logits.
    for name in rows:
      rows[name] = rows[name][order]
  finite.check(rows, 'outputs of the model', ADVICE)
  return rows


def batch_outputs(
  eval_step: EvalStep,
  params: PyTree,
  batches: Batches,
  put: Put,
  fetch: Callable[[PyTree], PyTree] = processes.fetch,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields the rows of each batch as `collect` returns those of all batches.

  Only those of a batch of several processes may be out of order. `fetch`
  returns arrays on devices as NumPy arrays.
  """
  pending = None
  for batch in batches:
    inputs = {k: batch[k] for k in ('image', 'label', 'mask')}
    inputs['index'] = batch['index'].astype(np.int32)
    on_device = put(inputs)
    labels = {k: on_device[k] for k in ('index', 'label', 'mask')}
    running = eval_step(params, on_device) | labels
    if pending:
      yield _rows(fetch(pending))
    pending = running  # Prepares the next batch during the computation.
  if pending:
    yield _rows(fetch(pending))


def _rows(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  if rows['label'].ndim > 1:
    rows['label'] = rows['label'] > 0
  real = rows.pop('mask') > 0
  return {name: values[real] for name, values in rows.items()}
