"""The path from the command to a dense layer of the training step."""

import pathlib
import sys

import flax.linen as nn
import pytest

import runs
import vit_jax

PACKAGE = str(pathlib.Path(vit_jax.__file__).parent)


class FoundError(Exception):
  """Ends the run once a dense layer of the training step is traced."""


def call_path():
  """Returns the functions of vit_jax on the stack, outermost first."""
  path, frame = [], sys._getframe(1)
  while frame:
    if frame.f_code.co_filename.startswith(PACKAGE):
      path.insert(0, frame.f_code.co_qualname)
    frame = frame.f_back
  return path


def test_few_calls_lead_from_the_command_to_a_dense_layer(tmp_path):
  def intercept(call, args, kwargs, context):
    if isinstance(context.module, nn.Dense):
      path = call_path()
      if any(name.endswith('train_step') for name in path):
        raise FoundError(path)
    return call(*args, **kwargs)

  config = runs.shrink(runs.load_config('digits'))
  with pytest.raises(FoundError) as error, nn.intercept_methods(intercept):
    runs.run(config, tmp_path)
  (path,) = error.value.args
  assert path[0] == 'run'  # On the command line, main.main comes before it.
  assert path[-1] == 'MlpBlock.__call__'
  assert 1 + len(path) <= 12, path
