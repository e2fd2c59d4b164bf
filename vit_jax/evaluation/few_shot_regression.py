"""Few-shot linear classification of frozen features, in closed form.

Section 4.1: "few-shot accuracies are obtained by solving a regularized
least-squares regression problem that maps the (frozen) representation of a
subset of training images to {-1, 1}^K target vectors". What the paper leaves
open, whitening, bias, regulariser and the draw of examples, is as in
big_vision's `fewshot_lsr`.

Everything but the features themselves is float64 on the host.
"""

from collections.abc import Callable, Iterable
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree
import numpy as np

from vit_jax.evaluation import classification
from vit_jax.training import steps

BIAS = 100.0  # So large that regularising its weight hardly matters.
EPSILON = 1e-5

FeatureStep = Callable[[PyTree, steps.Batch], dict[str, Array]]


@dataclasses.dataclass(frozen=True)
class Features:
  """What a model makes of examples, in their order.

  Attributes:
    values: (n, d) float32.
    label: (n,) class numbers.
  """

  values: np.ndarray
  label: np.ndarray

  def at(self, rows: Int[np.ndarray, ' m']) -> 'Features':
    """Those of some rows alone."""
    return Features(self.values[rows], self.label[rows])


def make_feature_step(model) -> FeatureStep:
  """A function of (params, batch) to what the linear head sees; to be jitted.

  Args:
    model: gives `(logits, features)`, with `pre_logits` (b, d) among these.
  """

  def feature_step(params, batch):
    _, features = model.apply({'params': params}, batch['image'], train=False)
    return {'features': features['pre_logits'].astype(jnp.float32)}

  return feature_step


def extract(
  feature_step: FeatureStep,
  params: PyTree,
  batches: Iterable[dict[str, np.ndarray]],
  put: Callable[[dict[str, np.ndarray]], steps.Batch],
) -> Features:
  """Runs the model over one pass of `batches`; arguments as for `predict`."""
  rows = classification.real_rows(feature_step, params, batches, put)
  return Features(rows['features'], rows['label'])


def choose(
  labels: Int[np.ndarray, ' n'], num_classes: int, shots: int, seed: int
) -> Int[np.ndarray, ' m']:
  """Draws examples of every class, class after class.

  With the same seed, the draw of more shots begins with that of fewer, class
  by class. A class with fewer examples takes part with all that it has.

  Args:
    labels: class numbers.
    num_classes: k.
    shots: how many examples of a class.
    seed: of the draw.

  Returns:
    Positions in `labels`.

  Raises:
    ValueError: if a label is not a class.
  """
  if labels.min() < 0 or labels.max() >= num_classes:
    raise ValueError(
      f'labels lie in {labels.min()}..{labels.max()}, but the classes are 0 to'
      f' {num_classes - 1}; choose a split with labels.'
    )
  counts = np.bincount(labels, minlength=num_classes)
  by_class = np.split(np.argsort(labels, kind='stable'), np.cumsum(counts)[:-1])
  rng = np.random.default_rng(seed)
  return np.concatenate([rng.permutation(rows)[:shots] for rows in by_class])


def augment(
  support: Float[np.ndarray, 'n d'], queries: Float[np.ndarray, 'm d']
) -> tuple[Float[np.ndarray, 'n d+1'], Float[np.ndarray, 'm d+1']]:
  """Whitens both, each dimension by the support's statistics; adds the bias.

  (x - mean) / (standard deviation + 1e-5), and a last column of 100.
  """
  support = support.astype(np.float64)
  mean, std = support.mean(axis=0), support.std(axis=0)

  def transform(features):
    whitened = (features - mean) / (std + EPSILON)
    return np.pad(whitened, [(0, 0), (0, 1)], constant_values=BIAS)

  return transform(support), transform(queries)


def solve(
  features: Float[np.ndarray, 'n d'],
  targets: Float[np.ndarray, 'n k'],
  l2: float,
) -> Float[np.ndarray, 'd k']:
  """The minimum over W of |X W - Y|^2 + l2 |W|^2.

  W = (X^T X + l2 I)^-1 X^T Y, which equals X^T (X X^T + l2 I)^-1 Y; the smaller
  of the two systems is solved.
  """
  n, d = features.shape
  if n >= d:
    gram = features.T @ features + l2 * np.eye(d)
    return np.linalg.solve(gram, features.T @ targets)
  gram = features @ features.T + l2 * np.eye(n)
  return features.T @ np.linalg.solve(gram, targets)


def accuracy(
  support: Features, queries: Features, *, num_classes: int, l2: float
) -> float:
  """Share of the queries that the support's regression classifies right.

  Args:
    support: examples to learn from. A class without any is never predicted,
      since its score is always below the mean of the others'.
    queries: examples to classify.
    num_classes: k.
    l2: weight of the regulariser.
  """
  features, query_features = augment(support.values, queries.values)
  targets = 2.0 * np.eye(num_classes)[support.label] - 1.0
  scores = query_features @ solve(features, targets, l2)
  return float(np.mean(scores.argmax(axis=1) == queries.label))
