"""Few-shot linear classification of frozen features, in closed form.

Section 4.1: "few-shot accuracies are obtained by solving a regularized
least-squares regression problem that maps the (frozen) representation of a
subset of training images to {-1, 1}^K target vectors". The paper leaves open
whitening, bias, regularization and the choice of examples; here, they are the
same as in big_vision's `fewshot_lsr`.

Everything except the features is computed in float64 on the host.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Float, Int, PyTree
import numpy as np

from vit_jax.checkpoints import finite
from vit_jax.evaluation import classification

BIAS = 100.0  # Large, so that regularization of its weight has little effect.
EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class Features:
  """Features of examples, ordered by example.

  Attributes:
    values: (n, d) float32.
    label: (n,) class numbers.
    index: (n,) positions of the examples in their source.
  """

  values: np.ndarray
  label: np.ndarray
  index: np.ndarray

  def take(self, index: Int[np.ndarray, ' m']) -> 'Features':
    """Returns the features of the given examples, except unreadable ones."""
    rows = np.searchsorted(self.index, index[np.isin(index, self.index)])
    return Features(self.values[rows], self.label[rows], self.index[rows])


def make_feature_step(model) -> classification.EvalStep:
  """Returns a function from (params, batch) to `features`, (b, d) float32.

  These are the features that the linear head of the model receives.
  """

  def feature_step(params, batch):
    _, features = model.apply({'params': params}, batch['image'], tokens=False)
    return {'features': features['pre_logits'].astype(jnp.float32)}

  return feature_step


def extract(
  feature_step: classification.EvalStep,
  params: PyTree,
  batches: classification.Batches,
  put: classification.Put,
) -> Features:
  """Computes the features of a dataset, as `classification.collect` does."""
  rows = classification.collect(feature_step, params, batches, put)
  return Features(rows['features'], rows['label'], rows['index'])


def choose_support(
  labels: Int[np.ndarray, ' n'], num_classes: int, shots: int, seed: int
) -> Int[np.ndarray, ' m']:
  """Draws examples of every class; returns positions in `labels`, by class.

  With the same seed, more shots add examples to those for fewer shots. Classes
  with fewer examples than `shots` contribute all of them.

  Raises:
    ValueError: if a label is not a class.
  """
  if labels.min() < 0 or labels.max() >= num_classes:
    raise ValueError(
      f'labels are in {labels.min()}..{labels.max()}, but the classes are 0 to'
      f' {num_classes - 1}; choose a split with labels.'
    )
  counts = np.bincount(labels, minlength=num_classes)
  by_class = np.split(np.argsort(labels, kind='stable'), np.cumsum(counts)[:-1])
  rng = np.random.default_rng(seed)
  return np.concatenate([rng.permutation(rows)[:shots] for rows in by_class])


def augment(
  support: Float[np.ndarray, 'n d'], queries: Float[np.ndarray, 'm d']
) -> tuple[Float[np.ndarray, 'n d+1'], Float[np.ndarray, 'm d+1']]:
  """Whitens each dimension with the statistics of the support; appends a bias.

  Computes (x - mean) / (standard deviation + 1e-5) and adds a column of 100.
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
  """Returns the W that minimizes |X W - Y|^2 + l2 |W|^2.

  W = (X^T X + l2 I)^-1 X^T Y = X^T (X X^T + l2 I)^-1 Y; solves the smaller of
  the two systems.
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
  """Returns the accuracy on `queries` of a regression fitted to `support`.

  Classes without support are never predicted, since their score is always below
  the mean of the others.

  Raises:
    finite.NonFiniteError: if the scores are not finite.
  """
  features, query_features = augment(support.values, queries.values)
  targets = 2.0 * np.eye(num_classes)[support.label] - 1.0
  scores = query_features @ solve(features, targets, l2)
  finite.check({'scores': scores}, 'few-shot regression', '.')
  return float(np.mean(scores.argmax(axis=1) == queries.label))
