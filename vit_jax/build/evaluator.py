"""Exact evaluation of a classifier on every split of a job."""

from collections.abc import Callable, Iterator
import contextlib
import functools
import logging
import time

from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from vit_jax import build
from vit_jax.distributed import compilation
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.evaluation import classification

_log = logging.getLogger(__name__)


Predictions = dict[str, classification.Predictions]


class Evaluator:
  """Exact metrics of a model by split; the model is compiled once."""

  def __init__(
    self,
    data: build.EvalData,
    model,
    mesh: Mesh,
    *,
    loss: str,
    threshold: float,
    project: Callable[[Array], Array] | None = None,
  ):
    """Prepares the evaluation.

    See `make_eval_step` for `loss` and `project`, and `Predictions` for
    `threshold`.
    """
    self._data = data
    self._mesh = mesh
    self._threshold = threshold
    self._has_multi_label_metrics = {
      name: build.has_multi_label_metrics(source, loss)
      for name, source in data.evals.items()
    }
    self._eval_steps = {
      with_logits: compilation.jit(
        classification.make_eval_step(
          model, loss=loss, project=project, with_logits=with_logits
        ),
        mesh.local_devices[0],
      )
      for with_logits in (False, True)
    }

  def evaluate(
    self, params: PyTree, *, raw_params: PyTree | None = None
  ) -> tuple[dict[str, float], Predictions]:
    """Returns metrics such as `test/accuracy`, and the predictions.

    Args:
      params: weights to evaluate.
      raw_params: the current weights if `params` are their average; their
        metrics are named `test/raw_accuracy` and so on.
    """
    predictions = {}
    with log_metrics('evaluation') as metrics:
      for name, source in self._data.evals.items():
        predictions[name] = self.predict(name, params)
        if skipped := source.num_examples - len(predictions[name].index):
          metrics[f'{name}/skipped'] = skipped
        for metric, value in (
          predictions[name].metrics(source.num_classes).items()
        ):
          metrics[f'{name}/{metric}'] = value
        if raw_params is not None:
          raw = self.predict(name, raw_params).metrics(source.num_classes)
          for metric, value in raw.items():
            metrics[f'{name}/raw_{metric}'] = value
    return metrics, predictions

  def predict(self, split: str, params: PyTree) -> classification.Predictions:
    """Applies the model to every example of a split."""
    return classification.predict(
      self._eval_steps[self._has_multi_label_metrics[split]],
      params,
      self._data.batches(split, self._mesh),
      functools.partial(mesh_lib.put_batch, mesh=self._mesh),
      threshold=self._threshold,
    )


@contextlib.contextmanager
def log_metrics(phase: str) -> Iterator[dict[str, float]]:
  """Yields a dict to fill with metrics, then logs them and the time taken."""
  metrics = {}
  begin = time.perf_counter()
  yield metrics
  _log.info(
    '%s took %.1f s: %s',
    phase,
    time.perf_counter() - begin,
    '  '.join(f'{name} {value:.4f}' for name, value in metrics.items()),
  )
