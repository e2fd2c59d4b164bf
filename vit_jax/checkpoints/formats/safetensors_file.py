"""Safetensors files: named arrays and string metadata.

https://huggingface.co/docs/safetensors: eight bytes with the length of a JSON
header, the header, and the arrays. Reading them cannot run code.
"""

from collections.abc import Mapping
import json

from etils import epath
import jax.numpy as jnp
import numpy as np

try:
  import safetensors
  import safetensors.numpy
except ImportError:  # An optional dependency.
  safetensors = None

from vit_jax.checkpoints import array_check, atomic

_DTYPES = {'F64': 'f8', 'F32': 'f4', 'F16': 'f2', 'BF16': jnp.bfloat16}


def read(path: epath.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Returns the arrays of a file by name, and its metadata.

  Raises:
    ImportError: if the safetensors library is not installed.
    ValueError: if the file is damaged, or an array does not hold finite
      floating-point numbers.
  """
  _check_installed()
  data = path.read_bytes()
  try:
    tensors = safetensors.deserialize(data)
  except safetensors.SafetensorError as error:
    raise ValueError(
      f'not a readable .safetensors file ({error}); it is truncated or damaged.'
      ' Download or write it again.'
    ) from error
  arrays = {}
  for name, tensor in sorted(tensors, key=lambda item: item[0]):
    if tensor['dtype'] not in _DTYPES:
      raise ValueError(
        f'parameter {name!r} has the type {tensor["dtype"]}; expected one of'
        f' {", ".join(_DTYPES)}.'
      )
    flat = np.frombuffer(tensor['data'], _DTYPES[tensor['dtype']])
    arrays[name] = flat.reshape(tensor['shape'])
    array_check.check(name, arrays[name])
  header = json.loads(data[8 : 8 + int.from_bytes(data[:8], 'little')])
  return arrays, header.get('__metadata__', {})


def write(
  arrays: Mapping[str, np.ndarray], metadata: dict[str, str], path: epath.Path
) -> None:
  """Writes a file atomically.

  Raises:
    ImportError: if the safetensors library is not installed.
  """
  _check_installed()
  arrays = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
  metadata = {'format': 'pt'} | metadata  # PyTorch libraries need this entry.
  atomic.write_bytes(path, safetensors.numpy.save(arrays, metadata))


def _check_installed():
  if safetensors is None:
    raise ImportError(
      '.safetensors files need the safetensors library, which is not installed;'
      ' run `pip install safetensors`.'
    )
