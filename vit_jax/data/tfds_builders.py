"""Finding TensorFlow Datasets (TFDS) builders, and preparing their data."""

from __future__ import annotations

from vit_jax.data.lazy_tensorflow import tfds
from vit_jax.data.source import NotPreparedError


def find(
  builder_name: str, name: str, data_dir: str
) -> tfds.core.DatasetBuilder:
  """The builder, from TFDS's own or from what is prepared in data_dir.

  Args:
    builder_name: `name[/config][:version]`.
    name: the name of the data for people.
    data_dir: where prepared data lies; empty for TFDS's own default.

  Raises:
    ValueError: if TFDS does not know it.
  """
  try:
    return tfds.builder(builder_name, data_dir=data_dir or None)
  except tfds.core.DatasetNotFoundError as error:
    raise ValueError(
      f'TFDS {tfds.__version__} does not know {builder_name!r}, and'
      f' {data_dir or tfds.core.constants.DATA_DIR!r} holds no prepared dataset'
      ' of that name. Prepare a TFDS builder of that name there (see'
      ' https://www.tensorflow.org/datasets/add_dataset), or name another'
      ' folder with prepared data, or give the images in class folders as'
      ' folder:PATH.'
    ) from error
  except (ValueError, AssertionError) as error:  # Unknown config or version.
    raise ValueError(f'{name}: {error}') from error


def prepare(
  builder: tfds.core.DatasetBuilder, name: str, manual_dir: str
) -> None:
  """Downloads and prepares the data.

  Args:
    builder: whose data.
    name: the name of the data for people.
    manual_dir: where files lie that TFDS cannot download; empty for TFDS's own
      default.

  Raises:
    NotPreparedError: if that fails.
  """
  try:
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(
        manual_dir=manual_dir or None
      )
    )
  except Exception as error:  # Builders raise whatever they like.
    raise NotPreparedError(
      f'{name} could not be prepared in {builder.data_path}:'
      f' {type(error).__name__}: {error}'
    ) from error


def check_prepared(builder: tfds.core.DatasetBuilder, name: str) -> None:
  """Refuses a builder without data.

  Raises:
    NotPreparedError: saying what would prepare it.
  """
  if builder.info.splits:
    return
  manual = ''
  if instructions := builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
    manual = (
      ' It needs files in the manual folder (by default downloads/manual in the'
      f' data folder): {" ".join(instructions.split())}'
    )
  raise NotPreparedError(
    f'{name}: TFDS has prepared nothing in {builder.data_path}. Name the'
    ' folder that holds its prepared data, or ask for download=true to'
    f' prepare it there.{manual}'
  )
