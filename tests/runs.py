"""Runs of the command line, in this process and in others, kept small."""

import importlib.util
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import numpy as np

from vit_jax import main
from vit_jax.config import values as config_values
from vit_jax.jobs.compare import points

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
SHARED = ROOT.parent / 'shared'


def load_config(name, *argument):
  """Returns the config of `--config=configs/NAME.py[:ARGUMENT]`."""
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*argument)


def override(config, **values):
  """Sets keys by their dotted names, with `__` for a dot.

  Text is parsed as on the command line.
  """
  for name, value in values.items():
    name = name.replace('__', '.')
    if isinstance(value, str):
      value = config_values.parse(name, value)
    config.update_from_flattened_dict({name: value})
  return config


def shrink(config):
  """Makes an experiment tiny: digits, two steps, a small model."""
  if config.job in ('study', 'data_study'):
    shrink_points(config)
  name = config.model.name
  if name.startswith(('R', 'AxialR')):
    config.model.update(SMALL_RESNET)
  if 'ViT' in name:
    config.model.update(SMALL)
  return override(
    config,
    batch_size=8,
    total_steps=2,
    total_epochs=0.0,
    best_metric='',
    optim__warmup_steps=1,
    data__name='digits',
    data__train='train',
    data__eval='test[:16]',
    data__image_size=_image_size(name),
    features__train=False,
    few_shot__datasets='digits|train[:32]|test[:16]',
    inference__models='',
    inference__image_sizes='16',
    inference__largest_batch=2,
  )


def _image_size(name):
  """Returns a size that gives ViTs at most 16 tokens."""
  patch_size = re.search(r'ViT.*/(\d+)$', name)
  return 4 * min(int(patch_size[1]), 16) if patch_size else 64


SMALL = {'depth': 1, 'width': 16, 'mlp_dim': 16, 'heads': 2}
SMALL_RESNET = {'stage_depths': (1, 1), 'width_factor': 0.5}
NO_SIZES = dict.fromkeys(SMALL, 0)
_POINT_KEYS = ('positions', 'positions_at', 'pool', 'representation_size')


def shrink_points(config):
  """Keeps the first point of each family of a study, and makes it tiny."""
  families = {}
  for point in points.list_points(config):
    name = re.sub(r'/\d+$', '/32', point.config.model.name)
    sizes = SMALL if 'ViT' in name else NO_SIZES
    sizes = sizes | (SMALL_RESNET if name.startswith(('R', 'AxialR')) else {})
    keys = {f'model.{key}': point.config.model[key] for key in _POINT_KEYS}
    keys |= {f'optim.{key}': point.config.optim[key] for key in ('name', 'lr')}
    keys |= {'model.name': name, 'model.dtype': 'float32', 'loss': 'softmax'}
    keys |= {f'model.{key}': value for key, value in sizes.items()}
    # The models of a data study differ only in what all have in common here.
    data_study = config.job == 'data_study'
    family = points.family_of(name) if data_study else point.family
    families.setdefault(family, (point.name, keys))
  config.study.points = {
    name: {'family': family, **keys}
    for family, (name, keys) in families.items()
  }
  config.sweep.seeds = 1
  if config.data_study.sizes:
    config.data_study.sizes = (20, 40)
  if config.study.finetune:
    config.study.finetune = ('digits',)
    config.study.finetune_keys = {
      'total_steps': 1,
      'batch_size': 8,
      'data.eval': 'test[:16]',
      'data.image_size': 64,
      'optim.lr': 0.03,  # So that there is no rate to select.
      'optim.warmup_steps': 0,
      'model.dtype': 'float32',
    }
    config.study.real = False
  drawn = ('few_shot/digits/1shot',) if config.few_shot.datasets else ()
  config.study.metrics = drawn
  config.few_shot.update(every=1 if config.few_shot.every else 0, shots=(1,))
  config.few_shot.seeds = 1


def start_from(config, workdir):
  """Lets a config in miniature begin with what the digits in miniature left."""
  checkpoint = str(workdir / 'final.npz')
  return override(
    config,
    init_from=checkpoint,
    model__name=config.model.name and 'ViT-Ti/2',
    interpolate__paths=f'{checkpoint},{checkpoint}',
    dedup__against='digits=test',
    sweep__grid='optim.lr=0.1|0.2',
    sweep__seeds=1,
  )


def command(*arguments):
  """A command line that starts the program with small settings."""
  if any(argument.startswith('--config=') for argument in arguments):
    # Its tests ask for the page; all others would wait for it.
    arguments = (*arguments, '--config.report.page=false')
  return [sys.executable, '-m', 'vit_jax.main', *arguments]


def start(*arguments, devices=1, **kwargs):
  """Starts the program in a process of its own."""
  return subprocess.Popen(
    command(*arguments),
    cwd=kwargs.pop('cwd', ROOT),
    env=os.environ | {'JAX_NUM_CPU_DEVICES': str(devices)},
    stderr=subprocess.PIPE,
    text=True,
    **kwargs,
  )


def finish(*arguments, expect=0, **kwargs):
  """Runs the program to its end; returns what it logged."""
  process = start(*arguments, **kwargs)
  _, log = process.communicate(timeout=600)
  assert process.returncode == expect, log
  return log


def run(config, workdir, page=False):
  """Runs a config in this process; returns its results."""
  config.report.page = page
  main.run(config, workdir)
  return json.loads((pathlib.Path(workdir) / 'results.json').read_text())


def events(workdir):
  """The metric history, without what depends on machine and moment."""
  lines = (pathlib.Path(workdir) / 'metrics.jsonl').read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if not k.startswith('perf/')}
    for line in lines
  ]


def free_port():
  """Returns a port on loopback that nothing listens on."""
  with socket.create_server(('127.0.0.1', 0)) as server:
    return server.getsockname()[1]


class Processes:
  """The program as several processes on loopback, each with one device."""

  def __init__(self, count, *arguments, logs, own=()):
    """Starts them.

    Args:
      count: how many.
      *arguments: of all.
      logs: a folder for what they log.
      own: further arguments of each.
    """
    logs.mkdir(parents=True, exist_ok=True)
    port = free_port()
    self.logs = [logs / f'{index}.txt' for index in range(count)]
    self.started = []
    own = own or [()] * count
    for index, log in enumerate(self.logs):
      keys = {
        'coordinator': f'127.0.0.1:{port}',
        'num_processes': count,
        'process_index': index,
      }
      keys = [f'--config.distributed.{k}={v}' for k, v in keys.items()]
      with log.open('w') as file:
        self.started.append(
          subprocess.Popen(
            command(*arguments, *own[index], *keys),
            cwd=ROOT,
            stderr=file,
            stdout=file,
          )
        )

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    for process in self.started:
      process.kill()
      process.wait()

  def wait_until(self, reached, seconds=300):
    """Waits until `reached()`, while all processes run."""
    deadline = time.monotonic() + seconds
    while not reached():
      codes = [process.poll() for process in self.started]
      assert codes == [None] * len(codes), self.log()
      assert time.monotonic() < deadline, self.log()
      time.sleep(0.001)

  def end(self, seconds=600):
    """Exit codes, once all have ended by themselves."""
    deadline = time.monotonic() + seconds
    return [
      process.wait(timeout=deadline - time.monotonic())
      for process in self.started
    ]

  def log(self):
    """Returns the logs of all processes."""
    return '\n'.join(path.read_text() for path in self.logs)


def finish_processes(count, *arguments, logs):
  """Runs the program to a good end; returns what process 0 logged."""
  with Processes(count, *arguments, logs=logs) as processes:
    assert processes.end() == [0] * count, processes.log()
    return processes.logs[0].read_text()


def assert_close(workdir, other, rtol=1e-5):
  """Checks for close losses, and equal counts and predictions."""
  ours, theirs = events(workdir), events(other)
  assert len(ours) == len(theirs)
  for a, b in zip(ours, theirs, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      if 'accuracy' in name:
        assert a[name] == b[name], name
      np.testing.assert_allclose(a[name], b[name], rtol=rtol, err_msg=name)
  for path in pathlib.Path(other).glob('predictions_*.jsonl'):
    theirs = [json.loads(line) for line in path.read_text().splitlines()]
    text = (pathlib.Path(workdir) / path.name).read_text()
    ours = [json.loads(line) for line in text.splitlines()]
    for a, b in zip(ours, theirs, strict=True):
      assert abs(a.pop('probability') - b.pop('probability')) < 2e-4
      assert a == b
