"""StableHLO: a program in one file, which any process with JAX can run.

  from jax import export
  program = export.deserialize(bytearray(open('model.stablehlo', 'rb').read()))
  logits = program.call(images)

The file is that of `jax.export`, which guarantees that later versions of JAX
can read it for at least six months.
"""

import functools

from etils import epath
import jax
from jax import export
import numpy as np

from vit_jax.checkpoints import atomic
from vit_jax.runtimes.network import PLATFORMS, Network, Runner


def write(network: Network, path: epath.Path) -> None:
  """Writes a program for all platforms, with the weights as constants.

  Raises:
    ValueError: if the weights are too large for a file.
  """
  network.check_fits_in_file('stablehlo')
  batch = network.batch_size or export.symbolic_shape('b')[0]
  function = jax.jit(functools.partial(network, network.params))
  exported = export.export(function, platforms=PLATFORMS)(network.images(batch))
  atomic.write_bytes(path, bytes(exported.serialize()))


def load(network: Network, path: epath.Path) -> tuple[Runner, str]:
  """Returns the function in a file, and the runtime."""
  del network
  exported = export.deserialize(bytearray(path.read_bytes()))
  call = jax.jit(exported.call)
  return lambda images: np.asarray(call(images)), f'jax {jax.__version__}'
