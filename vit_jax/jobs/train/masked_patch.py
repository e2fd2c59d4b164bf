"""Self-supervised pre-training by masked patch prediction (4.6, B.1.2)."""

import logging
import math
import time
from typing import Any

from etils import epath
import jax
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import program
from vit_jax.config.keys import KEYS
from vit_jax.data import pipeline
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import processes
from vit_jax.evaluation import patch_accuracy as evaluation
from vit_jax.inspection import patch_colours
from vit_jax.jobs.train import run as run_lib
from vit_jax.training import patch_targets, steps
from vit_jax.workdir import metrics as metrics_lib

_log = logging.getLogger(__name__)

NUM_PICTURED = 8

# Keys about labels, about a head for them, or about weights to start from.
_WITHOUT_MEANING = (
  'init_from',
  'mixup',
  'label_smoothing',
  'class_weights',
  'model.representation_size',
  'model.head_bias',
)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains a model to predict patches, from its random initialisation.

  Raises:
    ValueError: if parts of the config do not fit each other or the data.
  """
  flat = config_lib.flatten(config)
  for name in _WITHOUT_MEANING:
    if flat[name] != KEYS[name].default:
      raise ValueError(
        f'{name}={flat[name]!r} has no meaning in masked patch prediction,'
        ' which starts from random weights and looks at no labels; leave it at'
        f' {KEYS[name].default!r}.'
      )
  run_lib.train(config, workdir, MaskedPatches)


class MaskedPatches(run_lib.Trainable):
  """The content of corrupted patches as a training run's task."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    data: build.Data,
    mesh: Mesh,
    start: None,
  ):
    """Takes a run's parts.

    Raises:
      ValueError: if the model has no patches, or their number does not fit.
    """
    del start
    c = config.masked_patch
    total_steps = config_lib.total_steps(config, data.train.num_examples)
    self.program = program.masked_patches(config, mesh, total_steps=total_steps)
    self.backbone = self.program.model.encoder
    image_size = config_lib.image_size(config)
    self._grid = self.backbone.grid_shape(image_size)
    self._patch_shape = patch_targets.patch_shape(image_size, self._grid)
    self._target = patch_targets.TARGETS[c.target]
    self.evaluations = [(c.picture_every, self._draw)]
    self._config = config
    self._data = data
    self._mesh = mesh
    self._pictured = None
    self._eval_step = jax.jit(
      evaluation.make_eval_step(
        self.program.model, self._target, rate=c.rate, seed=config.seed
      )
    )
    self._predict = jax.jit(self._predicted_patches)

  def score(
    self, params: PyTree, *, raw_params: PyTree | None = None
  ) -> tuple[dict[str, float], None]:
    """Loss, colour accuracy and its baseline, by split."""
    metrics = {}
    begin = time.perf_counter()
    for split in self._data.evals:
      for name, value in self._evaluate(split, params).items():
        metrics[f'{split}/{name}'] = value
      if raw_params is not None:
        raw = self._evaluate(split, raw_params)
        for name in ('loss', 'accuracy'):
          metrics[f'{split}/raw_{name}'] = raw[name]
    _log.info(
      'evaluated in %.1f s: %s',
      time.perf_counter() - begin,
      '  '.join(f'{name} {value:.4f}' for name, value in metrics.items()),
    )
    return metrics, None

  def _evaluate(self, split: str, params: PyTree) -> dict[str, float]:
    source = self._data.evals[split]
    size = self._config.eval_batch_size or self._config.batch_size
    batches = pipeline.eval_batches(
      source,
      self._data.eval_transform,
      batch_size=mesh_lib.round_up(min(size, source.num_examples), self._mesh),
      skip_corrupt=self._config.data.skip_corrupt,
      **mesh_lib.input_share(self._mesh),
    )
    return evaluation.evaluate(
      self._eval_step,
      params,
      batches,
      lambda batch: mesh_lib.put_batch(batch, self._mesh),
    )

  def _draw(
    self, step: int, params: PyTree, metric_log: metrics_lib.MetricLog
  ) -> dict[str, float]:
    """Draws the first images of the first split, as the evaluation sees it."""
    if self._pictured is None:
      self._pictured = self._first_images()
    number, batch = self._pictured
    shown = (
      batch['image'],
      *self._predict(params, batch['image'], batch['index']),
    )
    images, predicted, corruption = jax.tree.map(
      lambda rows: rows[:number], processes.fetch(shown)
    )
    picture = patch_colours.draw(images, predicted, corruption, self._grid)
    metric_log.write_picture(step, 'patches', picture)
    return {}

  def _first_images(self) -> tuple[int, steps.Batch]:
    source = next(iter(self._data.evals.values()))
    number = min(NUM_PICTURED, source.num_examples)
    (batch,) = pipeline.eval_batches(
      source,
      self._data.eval_transform,
      batch_size=mesh_lib.round_up(number, self._mesh),
      only=np.arange(number),
      skip_corrupt=self._config.data.skip_corrupt,
      **mesh_lib.input_share(self._mesh),
    )
    needed = {'image': batch['image'], 'index': batch['index'].astype(np.int32)}
    return number, mesh_lib.put_batch(needed, self._mesh)

  def _predicted_patches(self, params, images, index):
    corruption = evaluation.draw_corruption(
      self._config.seed,
      index,
      math.prod(self._grid),
      self._config.masked_patch.rate,
    )
    predictions = self.program.model.apply(
      {'params': params}, images, corruption
    )
    return self._target.pixels(predictions, self._patch_shape), corruption

  def finish(self, workdir: epath.Path, scored: None) -> dict[str, Any]:
    """Leaves nothing more."""
    del workdir, scored
    return {}
