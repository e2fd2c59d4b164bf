"""Formats for other runtimes: weight files, and programs with their weights.

To add a format, write a module with the functions of a row and add the row.
"""

from collections.abc import Callable
import dataclasses
import functools

from etils import epath

from vit_jax.runtimes import (
  onnx_file,
  saved_model,
  stablehlo,
  torch_weights,
  weight_files,
)
from vit_jax.runtimes.network import Network, Runner


@dataclasses.dataclass(frozen=True)
class Runtime:
  """A format of exported models.

  Attributes:
    file: name of the file or folder.
    write: writes a network to a path.
    load: loads what `write` has written, in the runtime that the format is for,
      and returns a function from a batch of images to outputs, both arrays on
      the host, and the name and version of that runtime. Raises an ImportError
      if the runtime is not installed. None for the formats that this package
      reads itself.
    limit: largest accepted difference between outputs.
    is_program: whether the file contains a program, which may scale pixels and
      may be compiled for a fixed number of images; otherwise, only weights.
  """

  file: str
  write: Callable[[Network, epath.Path], None]
  load: Callable[[Network, epath.Path], tuple[Runner, str]] | None = None
  limit: float = 1e-5
  is_program: bool = False


RUNTIMES = {
  'npz': Runtime('model.npz', weight_files.write_official),
  'big_vision': Runtime('big_vision.npz', weight_files.write_big_vision),
  'timm': Runtime(
    'model.safetensors',
    functools.partial(weight_files.write, format='timm'),
    torch_weights.load_timm,
    limit=1e-4,
  ),
  'huggingface': Runtime(
    'huggingface',
    functools.partial(weight_files.write, format='huggingface'),
    torch_weights.load_transformers,
    limit=1e-4,
  ),
  'stablehlo': Runtime(
    'model.stablehlo', stablehlo.write, stablehlo.load, is_program=True
  ),
  'saved_model': Runtime(
    'saved_model', saved_model.write, saved_model.load, is_program=True
  ),
  'onnx': Runtime(
    'model.onnx', onnx_file.write, onnx_file.load, is_program=True
  ),
}
