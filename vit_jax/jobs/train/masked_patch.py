"""Self-supervised pre-training by masked patch prediction (4.6, B.1.2)."""

import functools
import math

from etils import epath
import jax
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import evaluator
from vit_jax.build import program as program_lib
from vit_jax.config.keys import KEYS
from vit_jax.distributed import compilation, processes
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.evaluation import patch_accuracy
from vit_jax.inspection import patch_colours
from vit_jax.jobs.train import run as run_lib
from vit_jax.models import pooling
from vit_jax.training import patch_targets, steps
from vit_jax.workdir import metrics as metrics_lib

NUM_PICTURED = 8

# Keys about labels, the head, or weights to start from.
_UNUSED_KEYS = (
  'init_from',
  'mixup',
  'mixup_form',
  'label_smoothing',
  'class_weights',
  'model.representation_size',
  'model.head_bias',
)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains a model to predict corrupted patches, from random weights.

  Raises:
    ValueError: if parts of the config do not match each other or the data.
  """
  flat = config_lib.flatten(config)
  for name in _UNUSED_KEYS:
    if flat[name] != KEYS[name].default:
      raise ValueError(
        f'{name}={flat[name]!r} does not apply to masked patch prediction,'
        ' which starts from random weights and does not use labels; leave it at'
        f' {KEYS[name].default!r}.'
      )
  if pooling.POOLS[config.model.pool].part:
    raise ValueError(
      f'model.pool={config.model.pool!r} has weights that masked patch'
      ' prediction does not train; use token or gap, and choose another pooling'
      ' when fine-tuning.'
    )
  run_lib.train(config, workdir, MaskedPatches)


class MaskedPatches(run_lib.Trainable):
  """Prediction of the content of corrupted patches."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    data: build.Data,
    mesh: Mesh,
    start: None,
  ):
    """Builds the program and the evaluation.

    Raises:
      ValueError: if the model has no patches, or their number or size does not
        match the config.
    """
    del start
    self.program = program_lib.masked_patches(
      config,
      mesh,
      total_steps=config_lib.total_steps(config, data.train.num_examples),
    )
    self.backbone = self.program.model.encoder
    self.evaluations = []
    if data.evals:
      self.evaluations = [(config.masked_patch.picture_every, self._draw)]
    self._data = data
    self._put = functools.partial(mesh_lib.put_batch, mesh=mesh)
    self._seed = config.seed
    self._rate = config.masked_patch.rate
    self._target = patch_targets.TARGETS[config.masked_patch.target]
    image_size = config_lib.image_size(config)
    self._grid = self.backbone.grid_shape(image_size)
    self._patch_shape = patch_targets.patch_shape(image_size, self._grid)
    device = mesh.local_devices[0]
    self._eval_step = compilation.jit(
      patch_accuracy.make_eval_step(
        self.program.model, self._target, rate=self._rate, seed=self._seed
      ),
      device,
    )
    self._predict = compilation.jit(self._predicted_patches, device)

  def evaluate(
    self, params: PyTree, *, raw_params: PyTree | None = None
  ) -> tuple[dict[str, float], None]:
    """Returns loss, colour accuracy and its baseline of every split."""
    with evaluator.log_metrics('evaluation') as metrics:
      for split in self._data.evals:
        for name, value in self._evaluate_split(split, params).items():
          metrics[f'{split}/{name}'] = value
        if raw_params is not None:
          raw = self._evaluate_split(split, raw_params)
          for name in ('loss', 'accuracy'):
            metrics[f'{split}/raw_{name}'] = raw[name]
    return metrics, None

  def _evaluate_split(self, split: str, params: PyTree) -> dict[str, float]:
    batches = self._data.batches(split, self.program.mesh)
    return patch_accuracy.evaluate(self._eval_step, params, batches, self._put)

  def _draw(
    self, step: int, params: PyTree, metric_log: metrics_lib.MetricLog
  ) -> dict[str, float]:
    """Draws predictions for the first images of the first split."""
    number, batch = self._first_images
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

  @functools.cached_property
  def _first_images(self) -> tuple[int, steps.Batch]:
    source = next(iter(self._data.evals.values()))
    number = min(NUM_PICTURED, source.num_examples)
    (batch,) = build.eval_batches(
      source,
      self._data.eval_transform,
      self.program.mesh,
      batch_size=number,
      only=np.arange(number),
      skip_corrupt=self._data.skip_corrupt,
    )
    needed = {'image': batch['image'], 'index': batch['index'].astype(np.int32)}
    return number, self._put(needed)

  def _predicted_patches(self, params, images, index):
    corruption = patch_accuracy.draw_corruption(
      self._seed, index, math.prod(self._grid), self._rate
    )
    predictions = self.program.model.apply(
      {'params': params}, images, corruption
    )
    return self._target.pixels(predictions, self._patch_shape), corruption
