"""The training step of a config, with everything but arrays and data.

Its mesh may be of devices that are only described: all but `create_state` can
be traced, lowered and compiled for a machine that is not there.
"""

import functools
import math

import jax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import config as config_lib
from vit_jax.data import pipeline, sources
from vit_jax.distributed import cpu, sharding, unrolling
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.jobs import assemble
from vit_jax.models import patch_predictor, resnet, stacking
from vit_jax.training import losses, masked_patch, patch_targets, steps
from vit_jax.training import state as state_lib

Batch = dict[str, jax.ShapeDtypeStruct]


class Program:
  """A training step, and shapes and shardings of what it works on.

  Attributes:
    mesh: of the devices.
    model: as it runs on the mesh, for the parameters of `state`.
    plain_model: the same for official parameters.
    state: what the step takes and returns, as `jax.ShapeDtypeStruct`s with
      shardings; encoder blocks are stacked where `model.scan` is set.
    file_state: the same as checkpoints hold it, under official names.
    batch: what the step takes, in the same manner.
    seed: of the run, likewise. Runs that differ in it alone have one program.
    init: `seed -> state` at step 0 from random parameters, jitted.
    step: `(state, batch, seed) -> (state, metrics)`, jitted; it consumes the
      state.
    total_steps: length of the run.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    *,
    model,
    plain_model,
    objective: steps.Objective,
    batch: Batch,
    total_steps: int,
  ):
    """Puts a step together.

    Args:
      config: of the run.
      mesh: this and others not named here as of the class.
      model: from `assemble.model` with the mesh, or around that.
      plain_model: the same without the mesh; it makes initial parameters.
      objective: of `model`.
      batch: shapes of it.
      total_steps: length of the run.

    Raises:
      ValueError: if parts of the config do not fit each other or the mesh.
    """
    mesh_lib.check_batch(config.batch_size, mesh, config.optim.accumulate)
    self.mesh = mesh
    self.model = model
    self.plain_model = plain_model
    self.batch = batch
    self.total_steps = total_steps
    self._config = config
    self.seed = jax.ShapeDtypeStruct(
      (), 'uint32', sharding=mesh_lib.replicated(mesh)
    )
    frozen = self._frozen(jax.eval_shape(self._initial_params, self.seed))
    self._optimizer, learning_rate = assemble.optimizer(
      config, total_steps, frozen
    )
    state = jax.eval_shape(self._random_state, self.seed)
    self.state = sharding.place(state, mesh)
    self.file_state = sharding.place(
      jax.eval_shape(stacking.unstack, state), mesh
    )
    self._shardings = sharding.shardings(self.state)
    self.init = jax.jit(self._random_state, out_shardings=self._shardings)
    train_step = steps.make_train_step(
      steps.hold(objective, frozen) if frozen else objective,
      self._optimizer,
      learning_rate,
      accumulate=config.optim.accumulate,
      ema_decay=config.optim.ema_decay,
      lay_out=lambda grads: lax.with_sharding_constraint(
        grads, self._shardings.params
      ),
    )
    self.step = jax.jit(
      train_step,
      donate_argnums=0,
      out_shardings=(self._shardings, mesh_lib.replicated(mesh)),
    )

  def compile(self) -> steps.Step:
    """The step with the run's seed, compiled for the devices of the mesh."""
    lowered = self.step.lower(self.state, self.batch, seed=self.seed)
    on_cpu = self.mesh.devices.flat[0].platform == 'cpu'
    compiled = cpu.compile_step(lowered) if on_cpu else lowered.compile()
    return functools.partial(compiled, seed=self._own_seed())

  def create_state(self, params: PyTree | None = None) -> state_lib.State:
    """The state at step 0, of which each device makes its own part.

    Args:
      params: official ones to start from, on the host; None for random ones.
    """
    if params is None:
      return self.init(self._own_seed())
    params = mesh_lib.put(self._arrange(params), self._shardings.params)
    create = jax.jit(
      self._initial_state, out_shardings=self._shardings, donate_argnums=0
    )
    return create(params)

  def to_file(self, state: PyTree) -> PyTree:
    """A state or parameters as files hold them; what is given stays there."""
    return unrolling.unroll(state)

  def from_file(self, state: PyTree) -> PyTree:
    """The inverse of `to_file`; what is given may be consumed."""
    return unrolling.roll(state) if self._config.model.scan else state

  def _own_seed(self) -> jax.Array:
    return mesh_lib.put(np.uint32(self._config.seed), self.seed.sharding)

  def _initial_params(self, seed) -> PyTree:
    return assemble.initial_params(self._config, self.plain_model, seed)

  def _random_state(self, seed) -> state_lib.State:
    return self._initial_state(self._arrange(self._initial_params(seed)))

  def _initial_state(self, params: PyTree) -> state_lib.State:
    return state_lib.create(
      params, self._optimizer, average=self._config.optim.ema_decay > 0
    )

  def _arrange(self, params: PyTree) -> PyTree:
    """Official parameters as the mesh has them."""
    if not self._config.model.scan:
      return params
    return stacking.stack(params)

  def _frozen(self, params):
    frozen = assemble.frozen(self._config, params)
    if frozen is None or not self._config.model.scan:
      return frozen
    return stacking.stack(frozen, join=self._same)

  def _same(self, layers):
    if len(set(layers)) > 1:
      raise ValueError(
        f'optim.freeze={self._config.optim.freeze!r} tells encoder blocks'
        ' apart, which a scan over them cannot; set model.scan=false.'
      )
    return layers[0]


def supervised(
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  *,
  num_classes: int,
  total_steps: int,
  several_labels: bool = False,
  class_weights: np.ndarray | None = None,
  start: assemble.Weights | None = None,
) -> Program:
  """Training on labelled images.

  Args:
    config: of the run.
    mesh: to train on.
    num_classes: size of the head.
    total_steps: length of the run.
    several_labels: whether labels are rows of zeros and ones.
    class_weights: (k,) factors of the loss of each class; None for 1.
    start: weights that the parameters will come from.

  Raises:
    ValueError: if parts of the config do not fit each other or the mesh.
  """
  model = assemble.model(config, num_classes, start, mesh)
  objective = steps.classification(
    model,
    num_classes=num_classes,
    loss=config.loss,
    label_smoothing=config.label_smoothing,
    mixup=config.mixup,
    class_weights=class_weights,
  )
  label = ((num_classes,), 'float32') if several_labels else ((), 'int32')
  return Program(
    config,
    mesh,
    model=model,
    plain_model=assemble.model(config, num_classes, start),
    objective=objective,
    batch=batch_shapes(config, mesh, label=label),
    total_steps=total_steps,
  )


def masked_patches(
  config: ml_collections.ConfigDict, mesh: Mesh, *, total_steps: int
) -> Program:
  """Self-supervised training by masked patch prediction.

  Args:
    config: of the run.
    mesh: to train on.
    total_steps: length of the run.

  Raises:
    ValueError: if parts of the config do not fit each other or the mesh, or the
      model has no patches.
  """
  encoder = assemble.model(config, num_classes=0, mesh=mesh)
  if isinstance(encoder, resnet.ResNet):
    raise ValueError(
      f'{config.model.name} has no patches to mask; choose a Vision'
      ' Transformer, or a hybrid such as R50+ViT-B/16.'
    )
  image_size = config_lib.image_size(config)
  grid = encoder.grid_shape(image_size)
  rate = config.masked_patch.rate
  patch_predictor.num_corrupted(math.prod(grid), rate)
  target = patch_targets.TARGETS[config.masked_patch.target]
  outputs = target.num_outputs(patch_targets.patch_shape(image_size, grid))
  model = patch_predictor.MaskedPatchPredictor(encoder, outputs)
  return Program(
    config,
    mesh,
    model=model,
    plain_model=patch_predictor.MaskedPatchPredictor(
      assemble.model(config, num_classes=0), outputs
    ),
    objective=masked_patch.objective(model, target, rate=rate),
    batch=batch_shapes(config, mesh),
    total_steps=total_steps,
  )


def class_weights(
  config: ml_collections.ConfigDict, source: sources.Source
) -> np.ndarray | None:
  """What `class_weights` asks for, for `supervised`."""
  if config.class_weights == 'none':
    return None
  counts = pipeline.label_counts(source, skip_corrupt=config.data.skip_corrupt)
  return losses.balanced_weights(counts)


def batch_shapes(
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  **others: tuple[tuple[int, ...], str],
) -> Batch:
  """Images, masks and what else belongs to each example.

  Args:
    config: of the run.
    mesh: to train on.
    **others: shapes without the batch, and types, by name.
  """
  shapes = {
    'image': ((*config_lib.image_size(config), 3), 'float32'),
    'mask': ((), 'float32'),
  }
  return {
    name: jax.ShapeDtypeStruct(
      (config.batch_size, *shape),
      dtype,
      sharding=mesh_lib.batch_sharding(mesh),
    )
    for name, (shape, dtype) in (shapes | others).items()
  }
