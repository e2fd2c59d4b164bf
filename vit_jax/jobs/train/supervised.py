"""Learning the labels of images, from random weights or a checkpoint."""

from typing import Any

from etils import epath
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import evaluator, program
from vit_jax.jobs.train import run
from vit_jax.workdir import predictions


def pretrain(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains from random weights (section 4.1, Appendix B.1, Table 3).

  Raises:
    ValueError: if the config names a checkpoint to start from, or does not fit
      the data.
  """
  if config.init_from:
    raise ValueError(
      f'init_from={config.init_from!r}: pre-training starts from random'
      " weights; leave it empty, or choose job='finetune'."
    )
  run.train(config, workdir, Classification)


def finetune(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains from a checkpoint (section 3.2, Appendix B.1.1, Table 4).

  Raises:
    ValueError: if the config names no checkpoint, or does not fit it or the
      data.
  """
  check_finetune(config)
  run.train(config, workdir, Classification)


def check_finetune(config: ml_collections.ConfigDict) -> None:
  """Checks that the config names a checkpoint to start from.

  Raises:
    ValueError: if `init_from` is empty.
  """
  if not config.init_from:
    raise ValueError(
      'fine-tuning needs a checkpoint to start from: set init_from to its path'
      " (npz, safetensors, or the folder of a run), or choose job='pretrain' to"
      ' train from scratch.'
    )


class Classification(run.Trainable):
  """The labels of images as a training run's task."""

  evaluations = ()

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    data: build.Data,
    mesh: Mesh,
    start: build.Weights | None,
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
    self._scorer = evaluator.Evaluator(config, data, self.backbone, mesh)

  def score(
    self, params: PyTree, *, raw_params: PyTree | None = None
  ) -> tuple[dict[str, float], evaluator.Predictions]:
    """As of `scoring.Scorer`."""
    return self._scorer.score(params, raw_params=raw_params)

  def finish(
    self, workdir: epath.Path, scored: evaluator.Predictions
  ) -> dict[str, Any]:
    """Writes all predictions; returns the classes and the accuracy of each."""
    names = self._data.class_names
    for split, predicted in scored.items():
      predictions.write(
        workdir,
        split,
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
