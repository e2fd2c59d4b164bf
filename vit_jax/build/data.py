"""The data of a config: opened splits, image transforms and batches."""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import logging
from typing import Any, TypeVar

from jax.sharding import Mesh
import ml_collections
import numpy as np

from vit_jax import config as config_lib
from vit_jax.build.batch_size import eval_batch_size
from vit_jax.data import (
  class_matching,
  decode,
  pipeline,
  preprocess,
  registry,
)
from vit_jax.data.file_source import Files
from vit_jax.data.source import RelabelledSource
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import processes
from vit_jax.evaluation import multi_label
from vit_jax.workdir import metrics

_log = logging.getLogger(__name__)

_Data = TypeVar('_Data', bound='EvalData')


@dataclasses.dataclass(frozen=True)
class EvalData:
  """The evaluation data of a job.

  Attributes:
    evals: opened splits by metric name.
    eval_transform: preprocessing of their images.
    eval_batch_size: examples per evaluation step, before rounding up to the
      devices.
    skip_corrupt: whether unreadable examples are skipped.
  """

  evals: dict[str, registry.Source]
  eval_transform: Callable
  eval_batch_size: int
  skip_corrupt: bool

  @property
  def class_names(self) -> tuple[str, ...]:
    """Class names in label order, the same for every split."""
    return next(iter(self.evals.values())).class_names

  def map_sources(
    self: _Data, function: Callable[[registry.Source], registry.Source]
  ) -> _Data:
    """Returns the data with a function applied to every split."""
    evals = {name: function(source) for name, source in self.evals.items()}
    return dataclasses.replace(self, evals=evals)

  def batches(self, split: str, mesh: Mesh) -> pipeline.EvalBatches:
    """Returns batches of every example of a split; see `eval_batches`."""
    return eval_batches(
      self.evals[split],
      self.eval_transform,
      mesh,
      batch_size=self.eval_batch_size,
      skip_corrupt=self.skip_corrupt,
    )


@dataclasses.dataclass(frozen=True)
class Data(EvalData):
  """The training and evaluation data of a job.

  Attributes:
    train: the opened training split.
    train_transform: preprocessing and augmentation of its images.
  """

  train: registry.Source
  train_transform: Callable

  @property
  def class_names(self) -> tuple[str, ...]:  # noqa: D102
    return self.train.class_names

  def map_sources(  # noqa: D102
    self, function: Callable[[registry.Source], registry.Source]
  ) -> 'Data':
    mapped = super().map_sources(function)
    return dataclasses.replace(mapped, train=function(self.train))


def open_data(config: ml_collections.ConfigDict) -> Data:
  """Opens the training split and the evaluation splits.

  Raises:
    ValueError: if data is missing or does not match the rest of the config.
  """
  _check_split_names(config)
  c = config.data
  listed = {}
  train = open_train(config, listed=listed)
  eval_data = open_eval_data(config, listed)
  _check_best_metric(config, eval_data)
  return Data(
    **vars(eval_data),
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
      randaugment=c.randaugment,
      decoder=decoder(config),
    ),
  )


def open_train(
  config: ml_collections.ConfigDict, **options: Any
) -> registry.Source:
  """Opens the training split; for `options`, see `open_split`.

  Raises:
    ValueError: if the data is unavailable.
  """
  c = config.data
  options |= {'subset': c.subset, 'seed': config.seed, 'exclude': c.exclude}
  return open_split(config, c.name, c.train, **options)


def _check_best_metric(
  config: ml_collections.ConfigDict, data: EvalData
) -> None:
  """Checks that `best_metric` is measured."""
  best = config.best_metric
  if best and best not in (names := score_names(config, data)):
    raise ValueError(
      f'best_metric={best!r} is not measured; with'
      f' data.eval={config.data.eval!r} it can be {" or ".join(names)}.'
    )


def score_names(config: ml_collections.ConfigDict, data: EvalData) -> list[str]:
  """Returns the names of the metrics by which weights can be compared."""
  names = [f'{name}/accuracy' for name in data.evals]
  if config.job != 'masked_patch':
    names += [
      f'{name}/{metric}'
      for name, source in data.evals.items()
      if has_multi_label_metrics(source, config.loss)
      for metric in multi_label.METRICS
    ]
  return names


def has_multi_label_metrics(source: registry.Source, loss: str) -> bool:
  """Returns whether an evaluation computes `multi_label.METRICS` for a split.

  It does for data with several labels per example and the sigmoid loss. Splits
  whose logits do not fit into memory are left out, with a warning.
  """
  if not source.multi_label or loss != 'sigmoid':
    return False
  size = multi_label.num_bytes(source.num_examples, source.num_classes)
  if size <= multi_label.MAX_BYTES:
    return True
  _log.warning(
    'no average precision and F1 for %s: the logits of %d examples and %d'
    ' classes take %.1f GiB, more than %.0f GiB; choose a smaller split, such'
    ' as %s[:%d], in data.eval',
    source.split, source.num_examples, source.num_classes, size / 2**30,
    multi_label.MAX_BYTES / 2**30, source.split.partition('[')[0],
    multi_label.MAX_BYTES // multi_label.num_bytes(1, source.num_classes),
  )  # fmt: skip
  return False


def _check_split_names(config: ml_collections.ConfigDict) -> None:
  """Rejects split names that are prefixes of the run's other metrics."""
  for name, split in config_lib.eval_splits(config).items():
    if name in metrics.RESERVED:
      raise ValueError(
        f'data.eval={config.data.eval!r}: {name}/ is the prefix of other'
        f' metrics, so the split {split!r} needs another name, as in'
        f' {name}_split={split}.'
      )


def open_eval_data(
  config: ml_collections.ConfigDict, listed: dict[str, Files] | None = None
) -> EvalData:
  """Opens only the evaluation splits.

  Args:
    config: config of the job.
    listed: files that have been listed; see `registry.open_source`.

  Raises:
    ValueError: if data is missing or an image size is invalid.
  """
  listed = {} if listed is None else listed
  evals = {
    name: open_split(config, config.data.name, split, listed=listed)
    for name, split in config_lib.eval_splits(config).items()
  }
  if config.data.trim_px:
    for source in evals.values():
      _check_trim(source, config.data.trim_px)
  return EvalData(
    evals,
    eval_transform(config),
    eval_batch_size=eval_batch_size(config),
    skip_corrupt=config.data.skip_corrupt,
  )


def _check_trim(source: registry.Source, trim_px: int) -> None:
  """Rejects a border that leaves nothing of the first image of a split."""
  images = {}
  with contextlib.suppress(ValueError):  # It may be corrupt.
    images = pipeline.read_images(source, [0], decode.to_rgb)
  for height, width, _ in (image.shape for image in images.values()):
    if min(height, width) <= 2 * trim_px:
      raise ValueError(
        f'data.trim_px={trim_px} leaves nothing of {source.describe(0)} in'
        f' {source.name}, an image of {height}x{width} px; choose less than'
        ' half of the shorter side.'
      )


def match_classes(
  config: ml_collections.ConfigDict,
  data: EvalData,
  class_names: Sequence[str] | None,
  num_classes: int,
) -> class_matching.Match:
  """Matches classes of the data with those of `init_from`; logs how they match.

  Args:
    config: config of the job.
    data: evaluation data.
    class_names: names recorded in the checkpoint; None if there are none.
    num_classes: number of classes of the checkpoint's head.

  Raises:
    ValueError: if they do not match.
  """
  match = class_matching.match(
    class_names,
    num_classes,
    data.class_names,
    by=config.data.match_classes,
    model=config.init_from,
    data=config.data.name,
  )
  _log.info('%s', match.note)
  return match


def with_labels_of(data: _Data, match: class_matching.Match) -> _Data:
  """Returns the data with the labels and class names of the model."""

  def relabelled(source):
    if match.is_identity and source.class_names == match.class_names:
      return source
    return RelabelledSource.create(source, match.labels, match.class_names)

  return data.map_sources(relabelled)


def open_split(
  config: ml_collections.ConfigDict,
  name: str,
  split: str,
  *,
  by_all: bool = True,
  **options: Any,
) -> registry.Source:
  """Opens a split of any dataset, with the data settings of the config.

  Args:
    config: config of the job.
    name: dataset, in the syntax of `data.name`.
    split: split of the dataset.
    by_all: whether all processes of the run call this. If so, only process 0
      prepares missing data, and the others wait.
    **options: other arguments of `registry.open_source`.

  Raises:
    ValueError: if the data is unavailable.
  """
  c = config.data
  index = c.index if name == c.name else ''

  def open_source(download):
    return registry.open_source(
      name,
      split,
      data_dir=c.dir,
      manual_dir=c.manual_dir,
      download=download,
      index=index,
      **options,
    )

  waits = by_all and processes.is_multiprocess()
  if not (waits and (c.download or index)):
    return open_source(c.download)
  # Only process 0 prepares the data or writes the index; the others wait.
  try:
    if processes.is_first():
      return open_source(c.download)
  finally:
    processes.wait_for_all(f'{name} is prepared')
  return open_source(download=False)


def eval_transform(config: ml_collections.ConfigDict) -> Callable:
  """Returns the preprocessing of evaluation images.

  Raises:
    ValueError: if an image size is invalid.
  """
  return preprocess.eval_transform(
    image_size=config_lib.image_size(config),
    crop=config.data.eval_crop,
    precrop_size=_precrop_size(config),
    interpolation=config.data.eval_interpolation,
    trim_px=config.data.trim_px,
    decoder=decoder(config),
  )


def decoder(config: ml_collections.ConfigDict) -> decode.Decoder:
  """Returns the decoder of the model's images."""
  return decode.Decoder(
    config_lib.channels(config), config.data.bits or 8, config.data.max_pixels
  )


def eval_batches(
  source: registry.Source,
  transform: Callable,
  mesh: Mesh,
  *,
  batch_size: int,
  only: np.ndarray | None = None,
  skip_corrupt: bool = False,
) -> pipeline.EvalBatches:
  """Returns batches of all examples of a source, sized to divide over a mesh.

  Args:
    source: opened split.
    transform: preprocessing of its images.
    mesh: devices to evaluate on.
    batch_size: maximum number of examples per batch, rounded up to a multiple
      of the devices.
    only: indices of the examples to read; None reads all.
    skip_corrupt: whether unreadable examples are skipped.
  """
  num_examples = source.num_examples if only is None else len(only)
  return pipeline.eval_batches(
    source,
    transform,
    batch_size=mesh_lib.round_up(min(batch_size, num_examples), mesh),
    only=only,
    skip_corrupt=skip_corrupt,
    **mesh_lib.input_share(mesh),
  )


def _precrop_size(config):
  """Returns the height and width before a random or center crop."""
  given = config.data.precrop_size
  size = config_lib.image_size(config)
  if not given:
    return tuple(round(side * 7 / 6) for side in size)
  if given < max(size):
    raise ValueError(
      f'data.precrop_size={given} is smaller than the image size'
      f' {size[0]}x{size[1]}; choose a precrop size that is at least as large.'
    )
  return given, given
