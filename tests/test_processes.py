"""Several processes train, evaluate, stop and resume like a single one."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import runs

ARGUMENTS = (
  '--config=configs/digits.py',
  '--config.total_steps=80',
  '--config.batch_size=16',
  '--config.eval_batch_size=24',
  '--config.log_every=1',
  '--config.eval_every=40',
  '--config.checkpoint_every=20',
  '--config.best_metric=test/accuracy',
  '--config.model.depth=1',
  '--config.model.width=16',
  '--config.model.mlp_dim=32',
  '--config.model.dropout=0.1',
  '--config.optim.accumulate=2',
  '--config.optim.warmup_steps=10',
)


@pytest.fixture(scope='module', autouse=True)
def optimized_processes():
  """Compiles in processes as outside of tests: rounding then differs least."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('JAX_DISABLE_MOST_OPTIMIZATIONS', '0')
    yield


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('processes')


@pytest.fixture(scope='module')
def two(folder):
  """The workdir of an undisturbed run of two processes."""
  workdir = folder / 'two'
  log = runs.finish_processes(
    2, *ARGUMENTS, f'--workdir={workdir}', logs=folder / 'logs'
  )
  assert 'process 0 of 2, with 1 of 2 devices' in log
  return workdir


def test_two_processes_do_what_one_does(two, folder):
  one = folder / 'one'
  runs.finish(*ARGUMENTS, f'--workdir={one}')
  runs.assert_close(two, one)
  results = json.loads((two / 'results.json').read_text())
  assert results['device_count'] == 2


def test_stopped_and_killed_runs_end_like_an_undisturbed_one(two, tmp_path):
  workdir, logs = tmp_path / 'run', tmp_path / 'logs'
  arguments = (*ARGUMENTS, f'--workdir={workdir}')

  def has_come(step):
    return lambda: (
      (workdir / 'metrics.jsonl').exists()
      and runs.events(workdir)[-1:] > []
      and runs.events(workdir)[-1]['step'] >= step
    )

  # A notice to one process is one to all.
  with runs.Processes(2, *arguments, logs=logs / 'stopped') as processes:
    processes.wait_until(has_come(25))
    processes.started[1].send_signal(signal.SIGTERM)
    assert processes.end() == [0, 0], processes.log()
    step = runs.events(workdir)[-1]['step']
    assert f'stopped by SIGTERM at step {step}' in processes.log()
  assert 25 <= step < 80
  assert (workdir / 'checkpoints' / str(step)).exists()

  # When one is killed, the others end soon.
  with runs.Processes(2, *arguments, logs=logs / 'killed') as processes:
    processes.wait_until(has_come(step + 20))
    processes.started[1].kill()
    killed = time.monotonic()
    assert processes.end()[0] != 0
    assert time.monotonic() - killed < 30
    log = processes.log()
    assert f'resuming from step {step}' in log
    assert 'lost the connection to another process' in log
  assert not (workdir / 'results.json').exists()

  log = runs.finish_processes(2, *arguments, logs=logs / 'end')
  assert 'resuming from step' in log
  assert runs.events(workdir) == runs.events(two)
  for name in ('final.npz', 'best.npz'):
    ours, theirs = np.load(workdir / name), np.load(two / name)
    for parameter in theirs.files:
      np.testing.assert_array_equal(ours[parameter], theirs[parameter])


START = """
import sys
from vit_jax.distributed import processes
try:
  processes.start(start_timeout=3, **eval(sys.argv[1]))
  print('started')
except (ValueError, OSError) as error:
  print(type(error).__name__, error)
  processes.exit_now(3)
"""


def start(arguments, **environment):
  """Returns the outcome of a call in a fresh process."""
  return subprocess.run(
    [sys.executable, '-c', START, repr(arguments)],
    cwd=runs.ROOT,
    env=os.environ | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    timeout=60,
  ).stdout


@pytest.mark.parametrize(
  ('arguments', 'environment', 'message'),
  [
    ({}, {}, 'started'),
    (
      {'coordinator': 'none'},
      {'JAX_COORDINATOR_ADDRESS': '127.0.0.1:1'},
      'started',
    ),
    (
      {'num_processes': 2},
      {},
      'ValueError got distributed.num_processes=2, but not'
      ' distributed.coordinator and distributed.process_index,',
    ),
    (
      {'num_processes': 2, 'process_index': 0},
      {'JAX_COORDINATOR_ADDRESS': 'localhost'},
      "ValueError the coordinator address 'localhost' is not of the form HOST",
    ),
    (
      {'coordinator': 'h:1', 'num_processes': 2, 'process_index': 2},
      {},
      'ValueError invalid process index 2 for 2 processes',
    ),
    (
      {'coordinator': '127.0.0.1:9', 'num_processes': 2},
      {'JAX_PROCESS_ID': '1'},
      'no answer from 127.0.0.1:9',
    ),
  ],
)
def test_invalid_starts_end_in_one_message(arguments, environment, message):
  assert message in start(arguments, **environment)


def test_missing_processes_are_reported():
  with runs.socket.create_server(('127.0.0.1', 0)) as server:
    port = server.getsockname()[1]
    address = f'127.0.0.1:{port}'
    keys = {'coordinator': address, 'num_processes': 2, 'process_index': 0}
    assert f'StartError process 0 cannot listen on port {port}' in start(keys)
  message = start(keys)
  assert 'error: not all processes connected within 3 s' in message
  assert 'some processes are missing' in message
