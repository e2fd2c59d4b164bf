"""Runs training steps on eight devices, for the tests of meshes.

`python tests/eight_devices.py FOLDER` trains every case for a few steps, moves
states from mesh to mesh, and writes the results to FOLDER.
"""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np

from vit_jax import config as config_lib
from vit_jax.build import program
from vit_jax.checkpoints import store as store_lib
from vit_jax.checkpoints.formats import official
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import sharding
from vit_jax.models import stacking

STEPS = 5
CLASSES = 3
MESHES = {
  '1': {'mesh.data': 1},
  '8': {},
  '4x2': {'mesh.fsdp': 2},
  '2x2x2': {'mesh.fsdp': 2, 'mesh.tensor': 2},
}

# Models, with dropout on, as changes of keys.
TINY = {
  'model.name': 'ViT-Ti/4', 'model.depth': 2, 'model.width': 16,
  'model.mlp_dim': 32, 'model.heads': 2, 'model.dropout': 0.1,
  'data.image_size': 12, 'optim.clip_norm': 1.0,
}  # fmt: skip
MODELS = {
  'token': {'model.stochastic_depth': 0.3},
  'gap': {'model.pool': 'gap', 'model.representation_size': 8},
  'hybrid': {
    'model.name': 'R50+ViT-B/32',
    'model.stage_depths': '1',
    'model.width_factor': 0.5,
    'data.image_size': 8,
  },
  'masked': {'model.stochastic_depth': 0.3},
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
  """A way to train; cases with the same `reference` have equal results."""

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
  Case(mesh='8', remat='full'),
  Case(mesh='4x2', scan=True),
  Case(mesh='2x2x2', scan=True, remat='dots'),
  Case(mesh='4x2', accumulate=4, scan=True, remat='full'),
  Case(optimizer='adam', mesh='8'),
  Case(optimizer='adam', mesh='4x2', scan=True),
  Case(optimizer='adam', mesh='2x2x2'),
  Case('gap', mesh='4x2'),
  Case('gap', mesh='2x2x2'),
  Case('hybrid', mesh='4x2', scan=True),
  Case('hybrid', mesh='2x2x2'),
  Case('masked', mesh='8'),
  Case('masked', mesh='4x2', scan=True),
  Case('masked', mesh='2x2x2', accumulate=4),
]
SHARDED = CASES[2]
# What a state travels along, a step on each mesh.
JOURNEY = [
  Case(optimizer='adam'),
  *(case for case in CASES if case.optimizer == 'adam'),
  Case(optimizer='adam'),
]


def make_config(changes):
  config = config_lib.base(batch_size=32, total_steps=STEPS)
  config.optim.update(warmup_steps=0)
  for name, value in changes.items():
    config_lib.set_keys(config, {name: value})
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
    | MESHES[case.mesh]
  )
  mesh = mesh_lib.create(**config.mesh)
  if case.model == 'masked':
    return program.masked_patches(config, mesh, total_steps=STEPS)
  return program.supervised(
    config, mesh, num_classes=CLASSES, total_steps=STEPS
  )


def make_batch(prog, step):
  """Returns a batch with the shapes of the program, seeded by the step."""
  rng = np.random.default_rng(step)
  make = {
    'image': lambda shape: rng.uniform(-1, 1, shape),
    'label': lambda shape: rng.integers(CLASSES, size=shape),
    'mask': np.ones,
  }
  batch = {
    name: make[name](x.shape).astype(x.dtype)
    for name, x in sorted(prog.batch.items())
  }
  return mesh_lib.put_batch(batch, prog.mesh)


def host(tree):
  return stacking.unstack(jax.device_get(tree))


class Trainer:
  """A compiled case; takes and returns states on its mesh."""

  def __init__(self, case, params=None):
    """Starts from official `params` on the host; None for random ones."""
    self.case = case
    self.program = make_program(case)
    self.step = self.program.compile()
    self.params = params or host(self.program.create_state().params)

  def start(self):
    return self.program.create_state(self.params)

  def advance(self, state, number):
    """Takes a step; returns its loss and the new state."""
    state, metrics = self.step(state, make_batch(self.program, number))
    total, count = metrics['loss']
    return float(total) / float(count), state

  def train(self):
    """Takes all steps; returns their losses and the last state."""
    losses, state = [], self.start()
    for number in range(STEPS):
      loss, state = self.advance(state, number)
      losses.append(loss)
    return losses, state


def exchanged(text):
  """Returns the shapes of all arrays that devices exchange in a program."""
  operations = re.findall(
    r' = (.*?) (?:all-gather|all-reduce|all-to-all|collective-permute'
    r'|reduce-scatter)(?:-start)?\(',
    text,
  )
  shapes = re.findall(r'\[([\d,]*)\]', ' '.join(operations))
  return [[int(d) for d in dims.split(',') if d] for dims in set(shapes)]


def travel(trainers, folder):
  """Saves on every mesh, restores on all; returns losses and differences."""
  stops = [trainers[case] for case in JOURNEY]
  losses, differing = [], []
  state = stops[0].start()
  with store_lib.Store(folder) as store:
    for number, stop in enumerate(stops):
      if number:
        saved = host(state)
        store.save(number, stops[number - 1].program.to_file_layout(state))
        for other in dict.fromkeys(stops):
          back = store.restore(other.program.file_state).state
          back = other.program.to_training_layout(back)
          placed = jax.tree.map(lambda x: x.sharding, back)
          assert placed == sharding.shardings(other.program.state)
          if not same_bits(host(back), saved):
            differing.append(f'{stops[number - 1].case} to {other.case}')
          if other is stop:
            state = back
      loss, state = stop.advance(state, number)
      losses.append(loss)
  return {'losses': losses, 'differing': differing}


def same_bits(left, right):
  return jax.tree.structure(left) == jax.tree.structure(right) and all(
    a.tobytes() == b.tobytes()
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
  )


def base_model():
  """Returns bytes of B/16 per device, in all, and while initializing it."""
  config = make_config(
    {
      'model.name': 'ViT-B/16',
      'optim.ema_decay': 0.9999,
      'mesh.data': 1,
      'mesh.fsdp': 8,
    }
  )
  prog = program.supervised(
    config, mesh_lib.create(**config.mesh), num_classes=1000, total_steps=STEPS
  )
  init = prog.init.lower(prog.seed).compile()
  state = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    prog.state,
    init.output_shardings,
  )
  parts = {
    'params': state.params,
    'ema_params': state.ema_params,
    'opt_state': state.opt_state,
  }
  found = {
    name: [
      sharding.device_bytes(part),
      sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(part)),
    ]
    for name, part in parts.items()
  }
  return found | {'init_temporary': init.memory_analysis().temp_size_in_bytes}


def main(folder):
  folder = pathlib.Path(folder)
  trainers, results = {}, {'losses': {}, 'exchanged': {}}
  for case in dict.fromkeys([*(c.reference for c in CASES), *CASES]):
    # The parameters of a model are initialized once.
    same = next((t for c, t in trainers.items() if c.model == case.model), None)
    trainers[case] = trainer = Trainer(case, same and same.params)
    results['losses'][case.name], state = trainer.train()
    results['exchanged'][case.name] = exchanged(trainer.step.func.as_text())
    np.savez(
      folder / f'{case.name}.npz', **official.flatten(host(state.params))
    )
  sharded = trainers[SHARDED]
  results['same_start'] = same_bits(
    host(sharded.program.create_state().params), sharded.params
  )
  results['journey'] = travel(trainers, folder / 'checkpoints')
  results['base_model'] = base_model()
  (folder / 'results.json').write_text(json.dumps(results))


def run(folder):
  """Runs `main` in a process with eight devices; returns the results."""
  path = pathlib.Path(__file__)
  subprocess.run(
    [sys.executable, path, folder],
    env=os.environ
    | {
      'JAX_NUM_CPU_DEVICES': '8',
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',  # Halves the compile time.
      'PYTHONPATH': str(path.parents[1]),
    },
    check=True,
  )
  return json.loads((folder / 'results.json').read_text())


if __name__ == '__main__':
  main(sys.argv[1])
