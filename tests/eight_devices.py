"""What the tests of meshes run in a process that has eight devices.

`python tests/eight_devices.py FOLDER` trains every case for a few steps, moves
states from mesh to mesh, and leaves what came of it in FOLDER.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np

from vit_jax import config as config_lib
from vit_jax.checkpoints import official
from vit_jax.checkpoints import store as store_lib
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import sharding
from vit_jax.jobs import assemble, program
from vit_jax.models import stacking

STEPS = 5
CLASSES = 3
MESHES = {'1': (1, 1, 1), '8': (8, 1, 1), '4x2': (4, 2, 1), '2x2x2': (2, 2, 2)}

# Models, with dropout on, as changes of keys.
TINY = {
  'model.name': 'ViT-Ti/4', 'model.depth': 2, 'model.width': 16,
  'model.mlp_dim': 32, 'model.heads': 2, 'model.dropout': 0.1,
  'data.image_size': 8, 'optim.clip_norm': 1.0,
}  # fmt: skip
MODELS = {
  'token': {},
  'gap': {'model.pool': 'gap', 'model.representation_size': 8},
  'hybrid': {
    'model.name': 'R50+ViT-B/32',
    'model.stage_depths': '1,1',
    'model.width_factor': 0.5,
    'data.image_size': 16,
  },
}
OPTIMIZERS = {
  'sgd': {'optim.name': 'sgd', 'optim.lr': 0.1},
  'adam': {
    'optim.name': 'adam',
    'optim.lr': 1e-3,
    'optim.weight_decay': 0.1,
    'optim.ema_decay': 0.9,
  },
}


@dataclasses.dataclass(frozen=True)
class Case:
  """One way to train; all with the same `reference` end alike."""

  model: str = 'token'
  optimizer: str = 'sgd'
  mesh: str = '1'
  scan: bool = False
  remat: str = 'none'
  accumulate: int = 1

  @property
  def reference(self):
    return dataclasses.replace(self, mesh='1', scan=False, remat='none')

  @property
  def name(self):
    return '-'.join(map(str, dataclasses.astuple(self)))


CASES = [
  Case(mesh='8'),
  Case(mesh='4x2'),
  Case(mesh='2x2x2'),
  Case(scan=True),
  Case(remat='full'),
  Case(mesh='8', remat='dots'),
  Case(mesh='4x2', scan=True, remat='full'),
  Case(mesh='2x2x2', scan=True, remat='dots'),
  Case(mesh='8', accumulate=4),
  Case(mesh='4x2', accumulate=4, scan=True),
  Case(mesh='2x2x2', accumulate=4, remat='full'),
  Case(optimizer='adam', mesh='8'),
  Case(optimizer='adam', mesh='4x2', scan=True),
  Case(optimizer='adam', mesh='2x2x2'),
  Case('gap', mesh='8', scan=True),
  Case('gap', mesh='4x2'),
  Case('gap', mesh='2x2x2'),
  Case('hybrid', mesh='8'),
  Case('hybrid', mesh='4x2', scan=True),
  Case('hybrid', mesh='2x2x2'),
]
# A state moves along these, one step on each.
JOURNEY = ('1', '8', '4x2', '2x2x2', '1')


def make_config(changes):
  config = config_lib.base(batch_size=32, total_steps=STEPS)
  config.optim.update(warmup_steps=0)
  for name, value in changes.items():
    config_lib.set_key(config, name, str(value))
  config_lib.check(config)
  return config


def make_program(case):
  config = make_config(
    TINY
    | MODELS[case.model]
    | OPTIMIZERS[case.optimizer]
    | {
      'model.scan': case.scan,
      'model.remat': case.remat,
      'optim.accumulate': case.accumulate,
    }
    | dict(zip(('mesh.data', 'mesh.fsdp', 'mesh.tensor'), MESHES[case.mesh]))
  )
  return program.supervised(
    config, assemble.mesh(config), num_classes=CLASSES, total_steps=STEPS
  )


def make_batch(prog, step):
  rng = np.random.default_rng(step)
  batch = {
    'image': rng.uniform(-1, 1, prog.batch['image'].shape).astype('f4'),
    'label': rng.integers(CLASSES, size=prog.batch['label'].shape, dtype='i4'),
    'mask': np.ones(prog.batch['mask'].shape, 'f4'),
  }
  return mesh_lib.put_batch(batch, prog.mesh)


def train(prog, step, state):
  """Takes all steps; returns the losses and the last state."""
  losses = []
  for number in range(STEPS):
    state, metrics = step(state, make_batch(prog, number))
    total, count = metrics['loss']
    losses.append(float(total) / float(count))
  return losses, state


def host(tree):
  return stacking.unstack(jax.device_get(tree))


def main(folder):
  folder = pathlib.Path(folder)
  losses = {}
  for case in dict.fromkeys([*(c.reference for c in CASES), *CASES]):
    prog = make_program(case)
    losses[case.name], state = train(prog, prog.compile(), prog.create_state())
    params = official.flatten(host(state.params))
    np.savez(folder / f'{case.name}.npz', **params)
  (folder / 'losses.json').write_text(json.dumps(losses))


def run(folder):
  """Runs `main` in a process with eight devices."""
  flags = '--xla_force_host_platform_device_count=8'
  path = pathlib.Path(__file__)
  subprocess.run(
    [sys.executable, path, folder],
    env=os.environ | {'XLA_FLAGS': flags, 'PYTHONPATH': path.parents[1]},
    check=True,
  )


if __name__ == '__main__':
  main(sys.argv[1])
