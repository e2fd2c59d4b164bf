"""SavedModel: for TensorFlow, TensorFlow Serving, and converters to TFLite.

The program is StableHLO in an operation XlaCallModule, which TensorFlow
compiles; the weights are variables.
"""

from __future__ import annotations

import os

from etils import epath
import jax

from vit_jax.data.lazy_tensorflow import tf
from vit_jax.runtimes.network import INPUT, PLATFORMS, Network, Runner

_SIGNATURE = 'serving_default'


def write(network: Network, path: epath.Path) -> None:
  """Writes a folder with one signature, from `images` to the output."""
  variable = tf.Variable  # Loads TensorFlow before jax2tf does.
  from jax.experimental import jax2tf

  batch = network.batch_size or 'b'
  shape = ', '.join(map(str, (batch, *network.image_shape)))
  function = jax2tf.convert(
    network,
    polymorphic_shapes=[None, f'({shape})'],
    native_serialization_platforms=PLATFORMS,
    with_gradient=False,
  )
  module = tf.Module()
  module.params = jax.tree.map(variable, network.params)
  images = tf.TensorSpec(
    (network.batch_size or None, *network.image_shape),
    network.dtype,
    name=INPUT,
  )
  module.call = tf.function(
    lambda images: {network.output: function(module.params, images)},
    input_signature=[images],
    autograph=False,
  )
  signatures = {_SIGNATURE: module.call.get_concrete_function()}
  tf.saved_model.save(module, os.fspath(path), signatures=signatures)


def load(network: Network, path: epath.Path) -> tuple[Runner, str]:
  """Returns the function of a folder, and the runtime."""
  loaded = tf.saved_model.load(os.fspath(path))
  signature = loaded.signatures[_SIGNATURE]

  def run(images):
    # The signature does not keep the module alive.
    assert loaded is not None
    return signature(**{INPUT: tf.constant(images)})[network.output].numpy()

  return run, f'tensorflow {tf.__version__}'
