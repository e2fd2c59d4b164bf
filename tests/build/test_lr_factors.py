"""Factors of the learning rate in the training step of models with 4 blocks."""

import re

import eight_devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import build
from vit_jax.build import program
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.models import stacking
from vit_jax.training import path_patterns

FAST_COMPILE = {
  'xla_backend_optimization_level': 0,
  'xla_llvm_disable_expensive_passes': True,
}
DEPTH = 4
TINY = eight_devices.TINY | {
  'batch_size': 4, 'mesh.data': 1, 'model.depth': DEPTH,
  'optim.name': 'sgd', 'optim.lr': 0.5, 'optim.weight_decay': 0.1,
  'optim.clip_norm': 0.0, 'optim.accumulate': 2,
}  # fmt: skip


def make_program(changes):
  """Returns a program whose gradient is the weights; it compiles quickly."""
  config = eight_devices.make_config(TINY | changes)
  model = build.create_model(config, num_classes=3)

  def objective(params, batch, key):
    del key
    count = jnp.sum(batch['mask'])
    loss = sum(jnp.sum(x**2) / 2 for x in jax.tree.leaves(params)) * count
    return loss, {'loss': (loss, count)}

  return program.Program(
    config,
    mesh_lib.create(**config.mesh),
    model=model,
    plain_model=model.clone(scan=False) if config.model.scan else model,
    objective=objective,
    batch={
      'image': jax.ShapeDtypeStruct((4, 12, 12, 3), 'float32'),
      'mask': jax.ShapeDtypeStruct((4,), 'float32'),
    },
    total_steps=5,
  )


def layer(path):
  if block := re.match(r'Transformer/encoderblock_(\d)/', path):
    return int(block[1]) + 1
  return DEPTH + 1 if re.match('head|.*/encoder_norm', path) else 0


@pytest.mark.parametrize(
  ('scan', 'frozen'), [(False, 'encoderblock_1/'), (True, 'LayerNorm_0/')]
)
def test_layers_decay_as_by_hand(scan, frozen):
  prog = make_program(
    {
      'model.scan': scan,
      'optim.freeze': f'.*{frozen}.*',
      'optim.layer_decay': 0.75,
      'optim.lr_factors': '.*/encoderblock_2/.*/query/.*=3,.*/query/bias=5',
    }
  )
  start = jax.tree.map(
    lambda x: np.full(x.shape, 2, x.dtype), prog.file_state.params
  )
  batch = {k: np.ones(x.shape, x.dtype) for k, x in prog.batch.items()}
  arguments = prog.create_state(start), batch, np.uint32(0)
  step = prog.step.lower(*arguments).compile(FAST_COMPILE)
  state, metrics = step(*arguments)
  assert metrics['learning_rate'][0] == 0.5
  params = stacking.unstack(jax.device_get(state.params))
  names = path_patterns.names(params)
  for path, weight in zip(names, jax.tree.leaves(params), strict=True):
    rate = 0.5 * 0.75 ** (DEPTH + 1 - layer(path))
    if re.search('encoderblock_2/.*/query/', path):
      rate *= 3
    elif path.endswith('/query/bias'):
      rate *= 5
    if frozen in path:
      rate = 0
    direction = 2 + 0.1 * 2 * path.endswith('/kernel')
    np.testing.assert_allclose(
      weight, 2 - rate * direction, rtol=1e-6, err_msg=path
    )
  assert {layer(name) for name in names} == set(range(DEPTH + 2))


def test_a_model_without_blocks_cannot_decay_by_block():
  unset = dict.fromkeys(
    [f'model.{name}' for name in ('depth', 'width', 'mlp_dim', 'heads')], 0
  )
  resnet = {'model.name': 'R50x1', 'model.stage_depths': '1'}
  resnet |= {'model.dropout': 0.0, 'optim.layer_decay': 0.5}
  with pytest.raises(ValueError, match='layer_decay=0.5 needs encoder blocks'):
    make_program(unset | resnet)
