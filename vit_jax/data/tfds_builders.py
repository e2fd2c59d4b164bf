"""Finds TensorFlow Datasets (TFDS) builders and prepares their data."""

from __future__ import annotations

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
    ValueError: if there is no such builder.
  """
  try:
    return tfds.builder(builder_name, data_dir=data_dir or None)
  except tfds.core.DatasetNotFoundError as error:
    raise ValueError(
      f'TFDS {tfds.__version__} does not know {builder_name!r}, and'
      f' {data_dir or tfds.core.constants.DATA_DIR!r} contains no prepared'
      ' dataset of that name. Prepare a TFDS builder of that name there (see'
      ' https://www.tensorflow.org/datasets/add_dataset), set data.dir to a'
      ' folder with prepared data, or put the images in class folders and use'
      ' folder:PATH.'
    ) from error
  except (ValueError, AssertionError) as error:  # Unknown config or version.
    raise ValueError(f'{name}: {error}') from error


def prepare(
  builder: tfds.core.DatasetBuilder, name: str, manual_dir: str
) -> None:
  """Downloads and prepares the data.

  Args:
    builder: builder of the dataset.
    name: name of the dataset, for messages.
    manual_dir: folder of files that TFDS cannot download; empty: TFDS's
      default.

  Raises:
    NotPreparedError: if preparation fails.
  """
  try:
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(
        manual_dir=manual_dir or None
      )
    )
  except Exception as error:  # Builders raise all kinds of errors.
    raise NotPreparedError(
      f'{name} could not be prepared in {builder.data_path}:'
      f' {type(error).__name__}: {error}'
    ) from error


def check_prepared(builder: tfds.core.DatasetBuilder, name: str) -> None:
  """Checks that the data of a builder is prepared.

  Raises:
    NotPreparedError: if it is not; says how to prepare it.
  """
  if builder.info.splits:
    return
  manual = ''
  if instructions := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
    manual = (
      ' It needs files in the manual folder data.manual_dir (default:'
      f' downloads/manual in the data folder): {" ".join(instructions.split())}'
    )
  raise NotPreparedError(
    f'{name}: TFDS has prepared nothing in {builder.data_path}. Set data.dir'
    ' to the folder of its prepared data, or data.download=true to prepare it'
    f' there.{manual}'
  )
