"""TensorFlow Datasets (TFDS) builders: their data, their splits and files."""

from __future__ import annotations

from collections.abc import Mapping
import os
import shlex

import numpy as np

from vit_jax import foreign_errors
from vit_jax.checkpoints import location
from vit_jax.data import catalog, splits
from vit_jax.data.lazy_tensorflow import tfds
from vit_jax.data.source import NotPreparedError


def find(
  builder_name: str, name: str, data_dir: str
) -> tfds.core.DatasetBuilder:
  """Returns a builder of TFDS, or of a dataset prepared in `data_dir`.

  Args:
    builder_name: `name[/config][:version]`.
    name: name of the dataset, for messages.
    data_dir: folder of prepared data; empty: TFDS's default.

  Raises:
    NotPreparedError: if there is no such builder, and no such prepared data.
    ValueError: if the builder has no such config or version.
  """
  try:
    return tfds.builder(builder_name, data_dir=_folder(data_dir))
  except tfds.core.DatasetNotFoundError as error:
    row = catalog.DATASETS.get(builder_name)
    if row and row.instructions:
      advice = row.instructions.format(
        dir=shlex.quote(os.fspath(data_dir) or 'DIR')
      )
    else:
      advice = (
        'Write your own images there with configs/prepare.py, prepare a TFDS'
        ' builder of that name (see'
        ' https://www.tensorflow.org/datasets/add_dataset), set data.dir to a'
        ' folder with prepared data, or put the images in class folders and'
        ' use folder:PATH.'
      )
    raise NotPreparedError(
      f'TFDS {tfds.__version__} does not know {builder_name!r}, and'
      f' {data_dir or tfds.core.constants.DATA_DIR!r} contains no prepared'
      f' dataset of that name. {advice}'
    ) from error
  except (ValueError, AssertionError) as error:  # Unknown config or version.
    raise ValueError(f'{name}: {error}') from error


def has_folder(builder_name: str, data_dir: str) -> bool:
  """Returns whether a folder for the builder exists, without loading TFDS."""
  default = os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')  # As TFDS.
  try:
    folder = location.expand(data_dir or default)
  except ValueError:  # On a server that cannot be reached.
    return False
  return (folder / builder_name).is_dir()


def prepare(
  builder: tfds.core.DatasetBuilder, name: str, manual_dir: str
) -> None:
  """Downloads and prepares the data.

  Files that TFDS cannot download are taken from `manual_dir`, or if it is
  empty, from TFDS's default folder.

  Raises:
    NotPreparedError: if preparation fails.
  """
  download_config = tfds.download.DownloadConfig(manual_dir=_folder(manual_dir))
  try:
    builder.download_and_prepare(download_config=download_config)
  except Exception as error:  # Builders raise all kinds of errors.
    raise NotPreparedError(
      f'{name} could not be prepared in {builder.data_path}:'
      f' {type(error).__name__}: {error}'
    ) from error


def check_prepared(
  builder: tfds.core.DatasetBuilder, name: str, expected: Mapping[str, int]
) -> None:
  """Checks that the data is prepared and splits have the expected sizes.

  Raises:
    NotPreparedError: if the data is not prepared; says how to prepare it.
    ValueError: if a split does not have the expected number of examples.
  """
  if not builder.info.splits:
    manual = ''
    if instructions := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
      manual = (
        ' It needs files in the manual folder data.manual_dir (default:'
        ' downloads/manual in the data folder):'
        f' {" ".join(instructions.split())}'
      )
    raise NotPreparedError(
      f'{name}: no prepared data in {builder.data_path}. Set data.dir to the'
      ' folder of the prepared data, or data.download=true to prepare it'
      f' there.{manual}'
    )
  sizes = _num_examples(builder)
  actual = {split: sizes.get(split, 0) for split in expected}
  if actual != dict(expected):
    raise ValueError(
      f'{name}: the data in {builder.data_path} has splits of'
      f' {_sizes(actual)} examples, but {_sizes(expected)} are expected; remove'
      ' the folder and prepare the data again.'
    )


def find_shards(
  builder: tfds.core.DatasetBuilder, name: str, split: str
) -> dict[str, np.ndarray]:
  """Finds the files of a split and the part of each that belongs to it.

  Returns:
    One array per column, with one row per file: its `path`, the number of
    records to `skip` and then to `take`, and the position in the split of the
    `first` one taken.

  Raises:
    ValueError: if the split is unknown or empty, or not stored as TFRecords.
  """
  file_format = builder.info.file_format
  if file_format is not tfds.core.FileFormat.TFRECORD:
    raise ValueError(
      f'{name} in {builder.data_path} is stored as {file_format.value}, but'
      ' only tfrecord is supported; prepare it again in that format.'
    )
  try:
    shards = builder.info.splits[split].file_instructions
  except (ValueError, KeyError, AssertionError) as error:
    reason = foreign_errors.message(error)
    raise ValueError(
      f'{name}: cannot read split {split!r} ({reason}); {splits.SYNTAX}.'
      f' Splits: {_sizes(_num_examples(builder))}.'
    ) from error
  if not shards:
    raise ValueError(
      f'{name}: split {split!r} contains no examples; {splits.SYNTAX}.'
    )
  take = np.array([shard.take for shard in shards], np.int64)
  return {
    'path': np.array([os.fspath(shard.filename) for shard in shards]),
    'skip': np.array([shard.skip for shard in shards], np.int64),
    'take': take,
    'first': np.cumsum(take) - take,
  }


def _folder(path: str) -> str | None:
  return os.fspath(location.expand(path)) if path else None


def _num_examples(builder):
  return {name: info.num_examples for name, info in builder.info.splits.items()}


def _sizes(num_examples):
  return ', '.join(f'{split} ({size})' for split, size in num_examples.items())
