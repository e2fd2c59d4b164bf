"""TensorFlow is imported on first use, from any thread."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def run(program):
  subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, check=True, timeout=120
  )


def test_importing_the_package_does_not_load_tensorflow():
  names = [path.stem for path in (ROOT / 'vit_jax/data').glob('*.py')]
  imports = '\n'.join(f'import vit_jax.data.{name}' for name in sorted(names))
  run(
    f'{imports}\n'
    'import sys\n'
    'loaded = {"tensorflow", "tensorflow_datasets", "sklearn"} & {*sys.modules}'
    '\nassert not loaded, loaded'
  )


def test_keras_is_imported_only_if_it_is_used():
  run("""
import sys
from vit_jax.data.lazy_tensorflow import tf, tfds
assert tf.constant(2).numpy() == 2 and tfds.__version__
assert not {'keras', 'sklearn', 'matplotlib'} & {*sys.modules}
assert 'keras.src' not in sys.modules
assert tf.keras.layers.Dense(3).units == 3
""")


def test_tensorflow_hides_gpus_however_it_is_imported():
  run("""
import tensorflow
calls = []
hide = tensorflow.config.set_visible_devices
def set_visible_devices(*args):
  calls.append(args)
  hide(*args)
tensorflow.config.set_visible_devices = set_visible_devices

from vit_jax.data.lazy_tensorflow import tf, tfds
assert not calls
assert tf.constant(2).numpy() == 2
assert calls == [([], 'GPU')], calls

assert tfds.__version__  # TensorFlow is initialized now.
assert calls == 2 * [([], 'GPU')], calls
""")


def test_first_use_in_several_threads_at_once():
  run("""
from concurrent import futures
import threading
from vit_jax.data import decode, photos, tfds_builders
from vit_jax.data.lazy_tensorflow import tf

start = threading.Barrier(4)

def use(number):
  start.wait()
  if number % 2:
    return tf.constant(number).numpy()
  return int(decode.to_rgb(decode.tf.fill((2, 2, 1), number))[0, 0, 0])

with futures.ThreadPoolExecutor(4) as pool:
  assert list(pool.map(use, range(4))) == list(range(4))

def first_use_of_tfds(number):
  assert tfds_builders.tfds.__version__
  return number

numbers = tf.data.Dataset.range(3).map(
  lambda n: tf.py_function(first_use_of_tfds, [n], tf.int64),
  num_parallel_calls=3,
)
assert list(numbers.as_numpy_iterator()) == [0, 1, 2]
""")
