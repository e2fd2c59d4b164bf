"""The kinds of original data, by the word before the colon in SOURCE."""

from collections.abc import Callable, Mapping

from vit_jax.data.preparation import (
  class_tars,
  image_files,
  parquet,
  webdataset,
)
from vit_jax.data.preparation.original import Original

# Functions from the text after the colon, such as a path, to the original.
# They raise a ValueError if there is no such data.
KINDS: Mapping[str, Callable[[str], Original]] = {
  'folder': image_files.open_folder,
  'table': image_files.open_table,
  'tars': class_tars.open_class_tars,
  'webdataset': webdataset.open_webdataset,
  'parquet': parquet.open_parquet,
}
# Names of the datasets of a kind, if prepare.name is empty.
DEFAULT_NAMES = {'tars': 'imagenet21k'}


def open_original(source: str) -> Original:
  """Opens original data.

  Args:
    source: KIND:PATH, with a key of KINDS; see configs/prepare.py.

  Raises:
    ValueError: if there is no such data.
  """
  kind, _, path = source.partition(':')
  if not path:
    raise ValueError(f'{source!r} has no path; write {kind}:PATH.')
  return KINDS[kind](path)
