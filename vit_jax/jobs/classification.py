"""Learning the labels of images, from random weights or a checkpoint."""

from typing import Any

from etils import epath
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections

from vit_jax import config as config_lib
from vit_jax import report
from vit_jax.jobs import assemble, program, scoring, training_run


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
    self._data = data
    self.program = program.supervised(
      config,
      mesh,
      num_classes=len(data.class_names),
      total_steps=config_lib.total_steps(config, data.train.num_examples),
      several_labels=data.train.multi_label,
      class_weights=program.class_weights(config, data.train),
      start=start,
    )
    self.backbone = self.program.model
    self._scorer = scoring.Scorer(config, data, self.backbone, mesh)

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
