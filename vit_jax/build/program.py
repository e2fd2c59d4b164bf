"""The training program of a config: model, objective, optimizer and step.

A program holds no arrays and no data, and its mesh may consist of device
descriptions. Everything except `create_state` then traces, lowers and compiles
for hardware that is not attached.
"""

import functools
import logging
import math

import jax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.data import pipeline, registry
from vit_jax.distributed import compilation, cpu, memory, sharding
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.models import patch_predictor, resnet, stacking
from vit_jax.training import lr_factors, optim, patch_targets, steps
from vit_jax.training import state as state_lib

_log = logging.getLogger(__name__)

Batch = dict[str, jax.ShapeDtypeStruct]


class Program:
  """A training step, with the shapes and shardings of its arguments.

  Attributes:
    mesh: the devices.
    compiler_options: compiler options of `step` for devices other than CPUs.
    model: the model as it is trained on the mesh, for the parameters in
      `state`.
    plain_model: the same model for official parameters.
    state: argument and result of the step, as `jax.ShapeDtypeStruct`s with
      shardings; encoder blocks are stacked if `model.scan` is set.
    file_state: the state as stored in checkpoints, with official names.
    batch: argument of the step, as `jax.ShapeDtypeStruct`s with shardings.
    seed: argument of the step, as a `jax.ShapeDtypeStruct`. Runs that differ
      only in their seed share one program.
    init: `seed -> state` at step 0 with random parameters, jitted.
    step: `(state, batch, seed) -> (state, metrics)`, jitted; donates the state.
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
    """Assembles the step.

    Args:
      config: config of the run.
      mesh: devices to train on.
      model: built for the mesh.
      plain_model: built without a mesh; creates the initial parameters.
      objective: objective of `model`.
      batch: shapes of a batch.
      total_steps: length of the run.

    Raises:
      ValueError: if parts of the config do not match each other or the mesh.
    """
    mesh_lib.check_batch(config.batch_size, mesh, config.optim.accumulate)
    self.mesh = mesh
    self.compiler_options = compilation.step_options(mesh)
    self.model = model
    self.plain_model = plain_model
    self.batch = batch
    self.total_steps = total_steps
    self.seed = jax.ShapeDtypeStruct(
      (), 'uint32', sharding=mesh_lib.replicated(mesh)
    )
    self._seed = config.seed
    self._is_stacked = config.model.scan
    self._average = config.optim.ema_decay > 0
    frozen = self._frozen(config.optim.freeze)
    learning_rate = _learning_rate(config, total_steps)
    self._optimizer = optim.create(
      config.optim.name,
      learning_rate,
      b1=config.optim.b1,
      b2=config.optim.b2,
      momentum=config.optim.momentum,
      mu_dtype=config.optim.mu_dtype,
      weight_decay=config.optim.weight_decay,
      coupled_decay=config.optim.coupled_decay,
      clip_norm=config.optim.clip_norm,
      frozen=frozen,
      lr_factors=self._lr_factors(config.optim),
    )
    state = jax.eval_shape(self._random_state, self.seed)
    self.state = sharding.place(state, mesh)
    self.file_state = sharding.place(
      jax.eval_shape(stacking.unstack, state), mesh
    )
    self._shardings = sharding.shardings(self.state)
    self._on_cpu = mesh.devices.flat[0].platform == 'cpu'
    self.init = jax.jit(
      self._random_state,
      out_shardings=self._shardings,
      compiler_options=cpu.options_of_init() if self._on_cpu else None,
    )
    train_step = steps.make_train_step(
      steps.freeze(objective, frozen) if frozen else objective,
      self._optimizer,
      learning_rate,
      accumulate=config.optim.accumulate,
      ema_decay=config.optim.ema_decay,
      ema_ramp=config.optim.ema_ramp,
      may_lack_examples=config.data.skip_corrupt,
      constrain=lambda grads: lax.with_sharding_constraint(
        grads, self._shardings.params
      ),
    )
    self.step = jax.jit(
      train_step,
      donate_argnums=0,
      out_shardings=(self._shardings, mesh_lib.replicated(mesh)),
    )

  def check_memory(self) -> None:
    """Checks that state and batch fit into the memory of attached devices.

    Raises:
      ValueError: if they do not.
    """
    images = 'x'.join(map(str, self.batch['image'].shape))
    memory.check_fits(
      {
        'weights and optimizer state': sharding.device_bytes(self.state),
        f'a batch of {images}': sharding.device_bytes(self.batch),
      },
      self.mesh.local_devices[0],
    )

  def compile(self) -> steps.Step:
    """Returns the step compiled for the mesh, with the run's seed bound.

    Raises:
      ValueError: if it does not fit into the memory of a CPU's host.
    """
    lowered = self.step.lower(self.state, self.batch, seed=self.seed)
    if self._on_cpu:
      compiled = cpu.compile_step(lowered)
    else:
      compiled = lowered.compile(compiler_options=self.compiler_options)
    return functools.partial(compiled, seed=self._seed_array())

  def create_state(self, params: PyTree | None = None) -> state_lib.State:
    """Returns the state at step 0; each device creates only its shard.

    Args:
      params: official parameters to start from, on the host; None for random
        ones.
    """
    if params is None:
      return self.init(self._seed_array())
    params = mesh_lib.put(self._arrange(params), self._shardings.params)
    create = jax.jit(
      self._initial_state, out_shardings=self._shardings, donate_argnums=0
    )
    return create(params)

  def to_file_layout(self, state: PyTree) -> PyTree:
    """Returns a state or parameters in file layout; does not consume them."""
    return sharding.unstack_blocks(state)

  def to_training_layout(self, state: PyTree) -> PyTree:
    """Returns a state in training layout; may consume the argument."""
    return sharding.stack_blocks(state) if self._is_stacked else state

  def _seed_array(self) -> jax.Array:
    return mesh_lib.put(np.uint32(self._seed), self.seed.sharding)

  def _initial_params(self, seed) -> PyTree:
    image_size = self.batch['image'].shape[1:3]
    return build.initial_params(self.plain_model, image_size, seed)

  def _random_state(self, seed) -> state_lib.State:
    return self._initial_state(self._arrange(self._initial_params(seed)))

  def _initial_state(self, params: PyTree) -> state_lib.State:
    return state_lib.create(params, self._optimizer, average=self._average)

  def _arrange(self, params: PyTree) -> PyTree:
    """Returns official parameters in training layout."""
    return stacking.stack(params) if self._is_stacked else params

  def _frozen(self, pattern: str) -> PyTree | None:
    """Returns a tree that is True for parameters matched by `optim.freeze`."""
    if not pattern:
      return None
    params = jax.eval_shape(self._initial_params, self.seed)
    frozen = optim.is_frozen(params, pattern)
    if not self._is_stacked:
      return frozen

    def join(layers):
      if len(set(layers)) > 1:
        raise ValueError(
          f'optim.freeze={pattern!r} matches some encoder blocks but not'
          ' others, which model.scan=true does not support; set'
          ' model.scan=false.'
        )
      return layers[0]

    return stacking.stack(frozen, join)

  def _lr_factors(self, c: ml_collections.ConfigDict) -> PyTree | None:
    """Returns the factors of the learning rate; None if the keys set none."""
    if c.layer_decay == 1 and not c.lr_factors:
      return None
    params = jax.eval_shape(self._initial_params, self.seed)
    factors = lr_factors.create(
      params, layer_decay=c.layer_decay, by_path=c.lr_factors
    )
    return self._arrange(factors)


def supervised(
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  *,
  num_classes: int,
  total_steps: int,
  multi_label: bool = False,
  class_weights: np.ndarray | None = None,
  start: build.Weights | None = None,
) -> Program:
  """Returns the program for training on labelled images.

  Args:
    config: config of the run.
    mesh: devices to train on.
    num_classes: size of the head.
    total_steps: length of the run.
    multi_label: whether labels are rows of zeros and ones.
    class_weights: (k,) weight of each class in the loss; None weights all
      classes by 1.
    start: weights from which the parameters will be initialized.

  Raises:
    ValueError: if parts of the config do not match each other or the mesh.
  """
  model = build.create_model(config, num_classes, start, mesh)
  objective = steps.classification(
    model,
    num_classes=num_classes,
    loss=config.loss,
    label_smoothing=config.label_smoothing,
    mixup=config.mixup,
    mixup_form=config.mixup_form,
    class_weights=class_weights,
  )
  label = ((num_classes,), 'float32') if multi_label else ((), 'int32')
  return Program(
    config,
    mesh,
    model=model,
    plain_model=build.create_model(config, num_classes, start),
    objective=objective,
    batch=_batch_shapes(config, mesh, label=label),
    total_steps=total_steps,
  )


def masked_patches(
  config: ml_collections.ConfigDict, mesh: Mesh, *, total_steps: int
) -> Program:
  """Returns the program for masked patch prediction.

  Args:
    config: config of the run.
    mesh: devices to train on.
    total_steps: length of the run.

  Raises:
    ValueError: if parts of the config do not match each other or the mesh, or
      the model has no patches.
  """
  encoder = build.create_model(config, num_classes=0, mesh=mesh)
  if encoder.channels != 3:
    raise ValueError(
      f'data.channels={encoder.channels}, but masked patch prediction predicts'
      ' colours (Appendix B.1.2); set data.channels=3.'
    )
  if isinstance(encoder, resnet.ResNet):
    raise ValueError(
      f'{config.model.name} has no patches to mask; choose a Vision'
      ' Transformer, or a hybrid such as R50+ViT-B/16.'
    )
  image_size = config_lib.image_size(config)
  grid = encoder.grid_shape(image_size)
  rate = config.masked_patch.rate
  patch_predictor.num_corrupted(math.prod(grid), rate)  # Raises for a bad rate.
  target = patch_targets.TARGETS[config.masked_patch.target]
  outputs = target.num_outputs(patch_targets.patch_shape(image_size, grid))
  model = patch_predictor.MaskedPatchPredictor(encoder, outputs)
  return Program(
    config,
    mesh,
    model=model,
    plain_model=patch_predictor.MaskedPatchPredictor(
      build.create_model(config, num_classes=0), outputs
    ),
    objective=patch_targets.objective(model, target, rate=rate),
    batch=_batch_shapes(config, mesh),
    total_steps=total_steps,
  )


def class_weights(
  config: ml_collections.ConfigDict, source: registry.Source
) -> np.ndarray | None:
  """Returns the weights requested by `class_weights`, for `supervised`."""
  if config.class_weights == 'none':
    return None  # Without counting, which reads all labels.
  counts = pipeline.label_counts(source, skip_corrupt=config.data.skip_corrupt)
  return steps.CLASS_WEIGHTS[config.class_weights](counts)


def _learning_rate(
  config: ml_collections.ConfigDict, total_steps: int
) -> optim.Schedule:
  warmup_steps = config_lib.warmup_steps(config, total_steps)
  if warmup_steps < config.optim.warmup_steps:
    _log.warning(
      '%g epochs are only %d steps: warm-up takes %d steps, not'
      ' optim.warmup_steps=%d',
      config.total_epochs,
      total_steps,
      warmup_steps,
      config.optim.warmup_steps,
    )
  return optim.schedule(
    config.optim.schedule,
    lr=config.optim.lr,
    total_steps=total_steps,
    warmup_steps=warmup_steps,
    boundaries=config.optim.boundaries,
  )


def _batch_shapes(
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  **others: tuple[tuple[int, ...], str],
) -> Batch:
  """Returns the shapes of images, masks and others, with their shardings.

  Args:
    config: config of the run.
    mesh: devices to train on.
    **others: shape per example and dtype, by name.
  """
  shapes = {
    'image': (
      (*config_lib.image_size(config), config_lib.channels(config)),
      'float32',
    ),
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
