"""From the config to parts, with the checks that need several of them."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree, UInt32
import ml_collections
import optax

from vit_jax import checkpoints, models
from vit_jax import config as config_lib
from vit_jax.data import preprocess, sources
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import processes
from vit_jax.distributed import sharding as sharding_lib
from vit_jax.models import kernels
from vit_jax.training import optim, randomness


@dataclasses.dataclass(frozen=True)
class EvalData:
  """Opened sources to evaluate, and what happens to their images."""

  evals: dict[str, sources.Source]
  eval_transform: Callable


@dataclasses.dataclass(frozen=True)
class Data(EvalData):
  """The same with a source to train on."""

  train: sources.Source
  train_transform: Callable

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names in the order of the labels."""
    return self.train.class_names


def data(config: ml_collections.ConfigDict) -> Data:
  """Opens the training split and the splits to evaluate.

  Raises:
    ValueError: if data is missing or does not fit the rest of the config.
  """
  c = config.data
  train = open_split(
    config,
    c.name,
    c.train,
    subset=c.subset,
    seed=config.seed,
    exclude=c.exclude,
  )
  held_out = eval_data(config)
  best = config.best_metric
  names = [f'{name}/accuracy' for name in held_out.evals]
  if best and best not in names:
    raise ValueError(
      f'best_metric={best!r} is not measured; with data.eval={c.eval!r} it can'
      f' be {" or ".join(names)}.'
    )
  return Data(
    **vars(held_out),
    train=train,
    train_transform=preprocess.train_transform(
      image_size=config_lib.image_size(config),
      crop=c.crop,
      precrop_size=_precrop_size(config),
      area=(c.crop_area, 1.0),
      flip=c.flip,
      rotate_degrees=c.rotate_degrees,
      scale=c.scale,
      shift=c.shift,
    ),
  )


def eval_data(config: ml_collections.ConfigDict) -> EvalData:
  """Opens the splits to evaluate alone.

  Raises:
    ValueError: if data is missing or an image size makes no sense.
  """
  evals = {
    name: open_split(config, config.data.name, split)
    for name, split in config_lib.eval_splits(config).items()
  }
  return EvalData(evals=evals, eval_transform=eval_transform(config))


def open_split(
  config: ml_collections.ConfigDict, name: str, split: str, **options: Any
) -> sources.Source:
  """Opens a split of any dataset; TFDS looks where the config says.

  With several processes, all have to open it.

  Args:
    config: of the job.
    name: of the dataset.
    split: of it.
    **options: further ones of `open_source`.

  Raises:
    ValueError: if it is not there.
  """
  c = config.data

  def open_source(download):
    return sources.open_source(
      name,
      split,
      data_dir=c.dir,
      manual_dir=c.manual_dir,
      download=download,
      **options,
    )

  if not (c.download and processes.several()):
    return open_source(c.download)
  # Process 0 prepares what is missing; the others find it prepared.
  try:
    if processes.is_first():
      return open_source(download=True)
  finally:
    processes.wait_for_all(f'{name} is prepared')
  return open_source(download=False)


def eval_transform(config: ml_collections.ConfigDict) -> Callable:
  """What happens to an image that is not for training.

  Raises:
    ValueError: if an image size makes no sense.
  """
  return preprocess.eval_transform(
    image_size=config_lib.image_size(config),
    crop=config.data.eval_crop,
    precrop_size=_precrop_size(config),
    trim_px=config.data.trim_px,
  )


def _precrop_size(config):
  """Height and width before a random or center crop."""
  given = config.data.precrop_size
  size = config_lib.image_size(config)
  if not given:
    return tuple(round(side * 7 / 6) for side in size)
  if given < max(size):
    raise ValueError(
      f'data.precrop_size={given} is smaller than the image,'
      f' {size[0]}x{size[1]}; a crop of it needs at least that size.'
    )
  return given, given


@dataclasses.dataclass(frozen=True)
class Weights:
  """What a run starts from.

  Attributes:
    path: where it was read.
    params: as in the file.
    description: what the file tells of its model.
  """

  path: str
  params: PyTree
  description: checkpoints.Description


def weights(config: ml_collections.ConfigDict) -> Weights | None:
  """Reads `init_from`; None if it is empty.

  Raises:
    ValueError: if the file is missing, damaged or of no known format.
  """
  if not config.init_from:
    return None
  params, description = checkpoints.load_with_description(
    config.init_from, heads=config.model.heads or None
  )
  return Weights(config.init_from, params, description)


def mesh(
  config: ml_collections.ConfigDict,
  devices: Sequence[jax.Device] | None = None,
) -> jax.sharding.Mesh:
  """The mesh that the config asks for, of all devices unless given some.

  Raises:
    ValueError: if it does not fit them.
  """
  c = config.mesh
  return mesh_lib.create(c.data, c.fsdp, c.tensor, devices)


def model(
  config: ml_collections.ConfigDict,
  num_classes: int,
  start: Weights | None = None,
  mesh: jax.sharding.Mesh | None = None,
):
  """The Linen module that `config.model` describes.

  Args:
    config: of the run.
    num_classes: size of the head.
    start: weights that the model will get; they tell the form of GELU and the
      epsilon of norms where the config does not.
    mesh: to train on; the model then keeps activations where their images are,
      and heeds `model.scan`, with stacked blocks, and `model.remat`. Without
      one it has the official parameters.

  Raises:
    ValueError: if the parts of the model, or the image, do not fit.
  """
  built = network(config, num_classes, start, mesh)
  built.grid_shape(config_lib.image_size(config))
  return built


def network(
  config: ml_collections.ConfigDict,
  num_classes: int,
  start: Weights | None = None,
  mesh: jax.sharding.Mesh | None = None,
):
  """The same as `model`, whatever the size of the image."""
  c = config.model
  told = start.description if start else None
  return models.create(
    c.name,
    num_classes=num_classes,
    depth=c.depth or None,
    width=c.width or None,
    mlp_dim=c.mlp_dim or None,
    heads=c.heads or None,
    patch_size=c.patch_size or None,
    stage_depths=config_lib.integers(config, 'model.stage_depths') or None,
    width_factor=c.width_factor or None,
    pool=c.pool,
    positions=c.positions,
    positions_at=c.positions_at,
    representation_size={0: None, -1: 'width'}.get(
      c.representation_size, c.representation_size
    ),
    dropout=c.dropout,
    dtype=c.dtype,
    gelu=c.gelu or (told.gelu if told else 'tanh'),
    norm_eps=c.norm_eps or (told.norm_eps if told else 1e-6),
    head_bias=c.head_bias,
    **({} if mesh is None else _how_to_train(config, mesh)),
  )


def _how_to_train(config, mesh):
  return {
    'scan': config.model.scan,
    'remat': config.model.remat,
    'platform': kernels.platform_of(mesh.devices.flat[0]),
    'constrain': sharding_lib.constrain_activations(mesh),
  }


def initial_params(
  config: ml_collections.ConfigDict, built, seed: UInt32[Array, '']
) -> PyTree:
  """Random weights of the model; to be jitted."""
  image = jnp.zeros((1, *config_lib.image_size(config), 3))
  key = randomness.stream_key(seed, 'params')
  return built.init(key, image, train=False)['params']


def note_derived(config: ml_collections.ConfigDict, built) -> None:
  """Sets what the config left to the checkpoint, for whoever loads the run."""
  if hasattr(built, 'gelu'):  # ResNets have neither.
    config.model.update(gelu=built.gelu, norm_eps=built.norm_eps)


def fit(config: ml_collections.ConfigDict, built, start: Weights) -> PyTree:
  """The weights as the model needs them; what became of them is logged.

  Raises:
    ValueError: if they are of another model.
  """
  params, _ = checkpoints.adapt(
    start.params,
    built,
    config_lib.image_size(config),
    head=config.init_head,
    old_image_size=start.description.image_size,
    source=start.path,
  )
  return params


def frozen(config: ml_collections.ConfigDict, params: PyTree) -> PyTree | None:
  """True for every weight that `optim.freeze` matches; None without one.

  Raises:
    ValueError: if it matches no weight, or all.
  """
  if not config.optim.freeze:
    return None
  return optim.is_frozen(params, config.optim.freeze)


def optimizer(
  config: ml_collections.ConfigDict,
  total_steps: int,
  frozen: PyTree | None = None,
) -> tuple[optax.GradientTransformation, optim.Schedule]:
  """The optimiser and its learning rate by step."""
  c = config.optim
  learning_rate = optim.schedule(
    c.schedule,
    lr=c.lr,
    total_steps=total_steps,
    warmup_steps=config_lib.warmup_steps(config, total_steps),
    boundaries=config_lib.integers(config, 'optim.boundaries'),
  )
  built = optim.create(
    c.name,
    learning_rate,
    b1=c.b1,
    b2=c.b2,
    momentum=c.momentum,
    mu_dtype=c.mu_dtype,
    weight_decay=c.weight_decay,
    clip_norm=c.clip_norm,
    frozen=frozen,
  )
  return built, learning_rate


def profiled_steps(config: ml_collections.ConfigDict) -> tuple[int, int] | None:
  """First and last step of `profile_steps`, or None.

  Raises:
    ValueError: if it is not FIRST:LAST.
  """
  if not config.profile_steps:
    return None
  first, colon, last = config.profile_steps.partition(':')
  if not (colon and first.isdigit() and last.isdigit()):
    raise ValueError(
      f'profile_steps={config.profile_steps!r} is not FIRST:LAST, such as'
      ' 10:15.'
    )
  return int(first), int(last)
