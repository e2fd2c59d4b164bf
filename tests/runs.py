"""Runs of the command line, in this process and in others, kept small."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

from vit_jax import main

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
SHARED = ROOT.parent / 'shared'


def load_config(name, *argument):
  """What `--config=configs/NAME.py[:ARGUMENT]` gives."""
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*argument)


def override(config, **values):
  """Sets keys by their dotted names, with `__` for a dot."""
  for name, value in values.items():
    *groups, leaf = name.split('__')
    node = config
    for group in groups:
      node = node[group]
    node[leaf] = value
  return config


def shrink(config):
  """The same experiment in miniature, on digits: two steps, a tiny model."""
  name = config.model.name
  if name.startswith('R'):
    override(config, model__stage_depths='1,1', model__width_factor=0.5)
  if 'ViT' in name:
    override(
      config,
      model__depth=1,
      model__width=16,
      model__mlp_dim=16,
      model__heads=2,
    )
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
    data__image_size=56 if name.endswith('14') else 64,
    few_shot__datasets='digits|train[:32]|test[:16]',
  )


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
  flags = f'--xla_force_host_platform_device_count={devices}'
  return subprocess.Popen(
    command(*arguments),
    cwd=kwargs.pop('cwd', ROOT),
    env=os.environ | {'XLA_FLAGS': flags},
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
