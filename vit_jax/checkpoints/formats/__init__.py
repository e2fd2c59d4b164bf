"""The formats of weight files: one module and one row of `FORMATS` for each.

To add a format, write a module with the functions of a row and add the row.
`load` uses the first row that matches a file; `export` selects a row by name.

The formats share two containers for named arrays, `npz` and `safetensors_file`,
and `pytorch` converts the layouts of PyTorch. The checkpoints of a training run
are folders with their own reader, `run_folder`.
"""

from collections.abc import Callable, Collection
import dataclasses
from typing import Any

from vit_jax.checkpoints import run_folder
from vit_jax.checkpoints.formats import (
  big_vision,
  bit,
  huggingface,
  official,
  siglip,
  timm,
)


@dataclasses.dataclass(frozen=True)
class Format:
  """A format of weight files.

  Attributes:
    suffix: container of the arrays, '.npz' or '.safetensors'.
    matches: returns whether arrays with these names are in this format.
    read: converts the arrays of a file to parameters under official names. For
      .safetensors it also takes what PyTorch's shapes do not determine:
      `heads`, the number of attention heads, and the result of `settings`.
    write: writes parameters to a path, given `gelu`, `norm_eps`, `class_names`,
      `evaluation` and `image_size`; None for formats that can only be read.
    settings: given the path and the metadata of a file, returns the settings
      that it and the files next to it record, by source; later sources take
      precedence. Settings are fields of `Description`, 'heads', 'pool', and
      'mean' and 'std' of images in [0, 1].
    stores_settings: whether `write` stores `gelu`, `norm_eps`, `class_names`
      and `evaluation`.
    writes_folder: whether `write` creates a folder instead of a file.
    options: model options beyond the paper that `write` can store: poolings
      with parameters, 'registers', fixed 'positions', 'class_token' beside a
      pooling with parameters, and 'pool', for a mean of patches in a model with
      a class token.
  """

  suffix: str
  matches: Callable[[Collection[str]], bool]
  read: Callable[..., dict[str, Any]]
  write: Callable[..., None] | None = None
  settings: Callable[..., dict[str, dict[str, Any]]] = lambda path, metadata: {}
  stores_settings: bool = False
  writes_folder: bool = False
  options: Collection[str] = ()


FORMATS = {
  'bit': Format('.npz', bit.matches, bit.read),
  'big_vision': Format(
    '.npz',
    big_vision.matches,
    big_vision.read,
    big_vision.write,
    options=('map', 'positions'),
  ),
  # Any other .npz file is assumed to use the official names.
  'official': Format(
    '.npz',
    lambda names: True,
    official.read,
    official.write,
    settings=lambda path, metadata: run_folder.settings(path.parent),
    options=('map', 'gap_norm', 'registers'),
  ),
  'timm': Format(
    '.safetensors',
    timm.matches,
    timm.read,
    timm.write,
    settings=timm.settings,
    stores_settings=True,
    options=(
      'map',
      'gap_norm',
      'registers',
      'class_token',
      'positions',
      'pool',
    ),
  ),
  'huggingface': Format(
    '.safetensors',
    huggingface.matches,
    huggingface.read,
    huggingface.write,
    settings=huggingface.settings,
    stores_settings=True,
    writes_folder=True,
    options=('registers', 'positions'),
  ),
  'siglip': Format(
    '.safetensors', siglip.matches, siglip.read, settings=siglip.settings
  ),
}
