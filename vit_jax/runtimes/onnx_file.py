"""ONNX: for ONNX Runtime and the runtimes of many devices.

The converter is jax2onnx (Apache 2.0, 15 MB), which translates the operations
of JAX. It is not a requirement of this package: it needs ONNX and ONNX Runtime
(110 MB), and its metadata excludes the version of Orbax used here, which it
does not need for this. Other converters do not apply: tf2onnx does not know
XlaCallModule, and `torch.onnx` needs a model of PyTorch.
"""

import functools
import logging

from etils import epath
from jax import export

from vit_jax.checkpoints import atomic
from vit_jax.runtimes.network import INPUT, Network, Runner

_INSTALL = (
  'which is not installed; run `pip install onnx onnx-ir onnxruntime` and'
  ' `pip install --no-deps jax2onnx`.'
)


def write(network: Network, path: epath.Path) -> None:
  """Writes one file.

  Raises:
    ImportError: if the converter is not installed.
    ValueError: if the weights are too large for a file.
  """
  network.check_fits_in_file('onnx')
  for name in ('jax2onnx', 'onnx_ir'):  # They warn of what is not used here.
    logging.getLogger(name).setLevel(logging.ERROR)
  try:
    import jax2onnx
  except ImportError as error:
    raise ImportError(f'export to ONNX needs jax2onnx, {_INSTALL}') from error
  batch = network.batch_size or export.symbolic_shape('b')[0]
  proto = jax2onnx.to_onnx(
    functools.partial(network, network.params),
    [network.images(batch)],
    model_name='vit_jax',
    input_names=[INPUT],
    output_names=[network.output],
  )
  atomic.write_bytes(path, proto.SerializeToString())


def load(network: Network, path: epath.Path) -> tuple[Runner, str]:
  """Returns the function in a file, and the runtime.

  Raises:
    ImportError: if ONNX Runtime is not installed.
  """
  try:
    import onnxruntime
  except ImportError as error:
    raise ImportError(f'ONNX files need onnxruntime, {_INSTALL}') from error
  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3  # Errors only.
  session = onnxruntime.InferenceSession(
    path.read_bytes(), options, providers=['CPUExecutionProvider']
  )

  def run(images):
    (outputs,) = session.run([network.output], {INPUT: images})
    return outputs

  return run, f'onnxruntime {onnxruntime.__version__}'
