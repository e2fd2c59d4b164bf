"""Errors of other libraries as one line, on errors that they raise here."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import foreign_errors
from vit_jax.data import assertions
from vit_jax.data.lazy_tensorflow import tf

TERABYTES = (10**6, 10**7)


def raised_by(function):
  with pytest.raises(Exception) as caught:
    function()
  return caught.value


@pytest.mark.parametrize(
  ('allocate', 'asked_for'),
  [
    (lambda: jnp.zeros(TERABYTES), '37,252.90 GiB could not be allocated'),
    (
      lambda: jax.jit(lambda x: jnp.sin(x + jnp.ones(TERABYTES)))(1),
      '37,252.90 GiB could not be allocated',
    ),
    (
      lambda: np.zeros(TERABYTES),
      'Unable to allocate 72.8 TiB for an array with shape (1000000, 10000000)'
      ' and data type float64',
    ),
    (lambda: bytes(10**14), 'the host could not allocate more'),
    (
      lambda: tf.zeros(TERABYTES),
      'OOM when allocating tensor with shape[1000000,10000000] and type float',
    ),
    (
      lambda: (
        tf.data.Dataset.range(9)
        .map(lambda x: tf.zeros((10**6 + tf.cast(x, tf.int32), 10**6)))
        .get_single_element()
      ),
      'OOM when allocating tensor with shape[1000000,1000000] and type float',
    ),
  ],
)
def test_out_of_memory_names_the_size_and_remedies(allocate, asked_for):
  error = raised_by(allocate)
  assert foreign_errors.is_foreign(error)
  assert foreign_errors.message(error) == (
    f'out of memory: {asked_for}. To use less, lower batch_size,'
    ' eval_batch_size or data.image_size, raise optim.accumulate, or set'
    ' model.remat=full.'
  )


def test_messages_of_tensorflow_keep_the_reason():
  images = tf.data.Dataset.from_tensors(b'abc').map(tf.io.decode_image)
  error = raised_by(lambda: next(iter(images)))
  assert '{{function_node' in str(error)
  assert '\n' in str(error)
  assert foreign_errors.is_foreign(error)
  reason = 'Unknown image file format. One of JPEG'
  assert foreign_errors.message(error).startswith(reason)
  assert '{{' not in foreign_errors.message(error)
  missing = raised_by(lambda: tf.io.read_file('/absent'))
  assert foreign_errors.message(missing) == '/absent; No such file or directory'


def test_failed_assertions_in_graphs():
  def check(x):
    with tf.control_dependencies(
      [assertions.require(x < 3, x, 'is too large')]
    ):
      return tf.identity(x)

  values = tf.data.Dataset.from_tensors(4).map(check)
  for run in (
    lambda: next(iter(values)),
    lambda: tf.function(check)(tf.constant(4)),
    lambda: check(tf.constant(4)),
  ):
    assert foreign_errors.message(raised_by(run)) == '4 is too large'


def test_other_errors_are_not_foreign():
  # TensorFlow reports a full disk as exhausted resources, too.
  full = tf.errors.ResourceExhaustedError(None, None, 'x; No space left')
  for error in (full, RuntimeError('RESOURCE_EXHAUSTED'), KeyError('x')):
    assert not foreign_errors.is_out_of_memory(error)
  assert not foreign_errors.is_foreign(KeyError('x'))
  assert foreign_errors.message(KeyError()) == 'KeyError'


def test_late_reads_are_hidden(monkeypatch):
  shown = []
  monkeypatch.setattr(sys, 'unraisablehook', shown.append)
  foreign_errors.hide_late_reads()
  late, other = (
    types.SimpleNamespace(exc_value=RuntimeError(text))
    for text in ('Event loop is closed', 'x')
  )
  for unraisable in (late, other):
    sys.unraisablehook(unraisable)
  assert shown == [other]
