"""Learning the labels of images, from random weights or a checkpoint."""

from typing import Any

from etils import epath
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections

from vit_jax import report
from vit_jax.data import pipeline
from vit_jax.jobs import assemble, scoring, training_run
from vit_jax.training import losses, steps


def train(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains on labelled images, as `training_run.train` does.

  Also leaves what the model says of each image of the evaluation splits.

  Raises:
    ValueError: if parts of the config do not fit each other or the data.
  """
  training_run.train(config, workdir, Classification)


class Classification(training_run.Task):
  """The labels of images as a training run's task."""

  evaluations = ()

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    data: assemble.Data,
    mesh: Mesh,
    start: assemble.Weights | None,
  ):
    """Takes a run's parts.

    Raises:
      ValueError: if the data does not fit the loss, or the model is impossible.
    """
    if data.train.multi_label and config.loss == 'softmax':
      raise ValueError(
        f'the images of {config.data.name} have several labels each, which'
        " softmax cross-entropy cannot express; use loss='sigmoid'."
      )
    self._config = config
    self._data = data
    self.model = assemble.model(config, len(data.class_names), start)
    self.backbone = self.model
    self._scorer = scoring.Scorer(config, data, self.model, mesh)

  def objective(self) -> steps.Objective:
    """Cross-entropy of the labels, with all that the config adds to it."""
    config = self._config
    class_weights = None
    if config.class_weights == 'balanced':
      counts = pipeline.label_counts(self._data.train)
      class_weights = losses.balanced_weights(counts)
    return steps.classification(
      self.model,
      num_classes=len(self._data.class_names),
      loss=config.loss,
      label_smoothing=config.label_smoothing,
      mixup=config.mixup,
      class_weights=class_weights,
    )

  def score(
    self, params: PyTree, *, raw_params: PyTree | None = None
  ) -> tuple[dict[str, float], scoring.Predictions]:
    """As of `scoring.Scorer`."""
    return self._scorer.score(params, raw_params=raw_params)

  def finish(
    self, workdir: epath.Path, scored: scoring.Predictions
  ) -> dict[str, Any]:
    """Writes all predictions; returns the classes and the accuracy of each."""
    names = self._data.class_names
    for split, predicted in scored.items():
      report.write_predictions(
        workdir / f'predictions_{split}.jsonl',
        predicted,
        names,
        self._data.evals[split].describe,
      )
    return {
      'class_names': names,
      'class_accuracy': {
        split: dict(
          zip(names, predicted.class_accuracy(len(names)), strict=True)
        )
        for split, predicted in scored.items()
      },
    }
