"""Scores weights on every evaluation split of a run."""

from collections.abc import Callable
import logging
import time

import jax
from jax.sharding import Mesh
from jaxtyping import Array, PyTree
import ml_collections

from vit_jax.data import pipeline
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.evaluation import classification
from vit_jax import build

_log = logging.getLogger(__name__)


Predictions = dict[str, classification.Predictions]


class Evaluator:
  """Exact metrics of weights, by split; the model is compiled once."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    data: build.EvalData,
    model,
    mesh: Mesh,
    *,
    project: Callable[[Array], Array] | None = None,
  ):
    """Takes a job's parts; `project` is that of `make_eval_step`."""
    self._batch_size = config.eval_batch_size or config.batch_size
    self._skip_corrupt = config.data.skip_corrupt
    self._data = data
    self._mesh = mesh
    self._eval_step = jax.jit(
      classification.make_eval_step(model, loss=config.loss, project=project)
    )

  def score(
    self, params: PyTree, *, raw_params: PyTree | None = None
  ) -> tuple[dict[str, float], Predictions]:
    """Metrics such as `test/accuracy`, and the predictions behind them.

    Args:
      params: the weights that the run stands for.
      raw_params: where those are averaged ones, the weights themselves; their
        metrics are called `test/raw_accuracy` and so on.
    """
    metrics, predictions = {}, {}
    begin = time.perf_counter()
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
    _log.info(
      'evaluated in %.1f s: %s',
      time.perf_counter() - begin,
      '  '.join(f'{name} {value:.4f}' for name, value in metrics.items()),
    )
    return metrics, predictions

  def predict(self, name: str, params: PyTree) -> classification.Predictions:
    """Runs the model over every example of one split."""
    source = self._data.evals[name]
    size = min(self._batch_size, source.num_examples)
    batches = pipeline.eval_batches(
      source,
      self._data.eval_transform,
      batch_size=mesh_lib.round_up(size, self._mesh),
      skip_corrupt=self._skip_corrupt,
      **mesh_lib.input_share(self._mesh),
    )
    return classification.predict(
      self._eval_step,
      params,
      batches,
      lambda batch: mesh_lib.put_batch(batch, self._mesh),
    )
