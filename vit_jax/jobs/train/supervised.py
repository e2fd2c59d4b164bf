"""Supervised training, from random weights or from a checkpoint."""

from typing import Any

from etils import epath
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import evaluator
from vit_jax.build import program as program_lib
from vit_jax.jobs.train import run
from vit_jax.workdir import predictions as predictions_lib
from vit_jax.workdir import results


def pretrain(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains from random weights (section 4.1, Appendix B.1, Table 3).

  Raises:
    ValueError: if `init_from` is set, or the config does not match the data.
  """
  if config.init_from:
    raise ValueError(
      f'init_from={config.init_from!r}: pre-training starts from random'
      " weights; leave it empty, or set job='finetune'."
    )
  run.train(config, workdir, Classification)


def finetune(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains from a checkpoint (section 3.2, Appendix B.1.1, Table 4).

  Raises:
    ValueError: if `init_from` is empty, or the config does not match the
      checkpoint or the data.
  """
  check_finetune(config)
  run.train(config, workdir, Classification)


def check_finetune(config: ml_collections.ConfigDict) -> None:
  """Checks that the config has a checkpoint to start from.

  Raises:
    ValueError: if `init_from` is empty.
  """
  if not config.init_from:
    raise ValueError(
      'fine-tuning needs a checkpoint to start from: set init_from to its path'
      ' (npz, safetensors, or the folder of a run) or its name, such as'
      " augreg:B/16, or set job='pretrain' to train from scratch."
    )


class Classification(run.Trainable):
  """Classification of labelled images."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    data: build.Data,
    mesh: Mesh,
    start: build.Weights | None,
  ):
    """Builds the program and the evaluator.

    Raises:
      ValueError: if the data does not match the loss, or the model is invalid.
    """
    if data.train.multi_label and config.loss == 'softmax':
      raise ValueError(
        f'the images of {config.data.name} have several labels each, which'
        " softmax cross-entropy does not support; set loss='sigmoid'."
      )
    self._data = data
    self.program = program_lib.supervised(
      config,
      mesh,
      num_classes=len(data.class_names),
      total_steps=config_lib.total_steps(config, data.train.num_examples),
      multi_label=data.train.multi_label,
      class_weights=program_lib.class_weights(config, data.train),
      start=start,
    )
    self.backbone = self.program.model
    self._evaluator = evaluator.Evaluator(
      data,
      self.backbone,
      mesh,
      loss=config.loss,
      threshold=config.label_threshold,
    )

  def evaluate(
    self, params: PyTree, *, raw_params: PyTree | None = None
  ) -> tuple[dict[str, float], evaluator.Predictions]:
    """Returns metrics and predictions of every split; see `Evaluator`."""
    return self._evaluator.evaluate(params, raw_params=raw_params)

  def write_predictions(
    self, workdir: epath.Path, predictions: evaluator.Predictions
  ) -> dict[str, Any]:
    """Writes all predictions; returns the classes and their metrics."""
    names = self._data.class_names
    for split, predicted in predictions.items():
      predictions_lib.write(
        workdir,
        split,
        predicted,
        names,
        self._data.evals[split].describe,
      )
    return {
      'class_names': names,
      'multi_label': self._data.train.multi_label,
      **results.by_class(predictions, names),
    }
