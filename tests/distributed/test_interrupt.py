"""Ctrl-C ends a program with one line, wherever it is."""

import os
import signal
import subprocess
import sys

import pytest

from vit_jax.distributed import preemption

LINE = 'interrupted; to continue, type: '
PROGRAM = """
import ctypes, os, signal, sys, time
from vit_jax.distributed import interrupt
interrupt._SECONDS_TO_UNWIND = 0.5
interrupt.exit_during_imports()

class Deleted:
  def __del__(self):
    ready()

def ready():
  print('ready', flush=True)
  time.sleep(60)

def imports():
  ready()

def python():
  try:
    ready()
  finally:
    print('cleaned up')

def converted():
  try:
    ready()
  except KeyboardInterrupt:
    raise ValueError('an error of a library')

def deleting():
  Deleted()

def native():
  # A signal does not end the wait for a mutex.
  mutex = ctypes.create_string_buffer(64)
  ctypes.CDLL(None).pthread_mutex_lock(mutex)
  print('ready', flush=True)
  ctypes.CDLL(None).pthread_mutex_lock(mutex)

def training():
  def note(*unused):
    os.write(1, b'noted\\n')  # The signal may interrupt `print`.
  signal.signal(signal.SIGINT, note)
  print('ready', flush=True)
  while True:
    time.sleep(60)

if sys.argv[1] == 'imports':
  imports()
with interrupt.one_line():
  globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize(
  'place',
  ['imports', 'python', 'converted', 'deleting', 'native', 'training'],
)
def test_ends_in_one_line(place):
  command = [sys.executable, '-S', '-c', PROGRAM, place]
  with subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={'PYTHONPATH': os.pathsep.join(filter(None, sys.path))},
  ) as process:
    try:
      assert process.stdout.readline() == 'ready\n'
      process.send_signal(signal.SIGINT)
      if place == 'training':  # The first one only asks for a save.
        assert process.stdout.readline() == 'noted\n'
        process.send_signal(signal.SIGINT)
      output, log = process.communicate(timeout=30)
    finally:
      process.kill()
  assert process.returncode == 130
  assert log.startswith(LINE)
  assert log.endswith(f' {place}\n')
  assert ('cleaned up' in output) == (place == 'python')


def test_stop_signal():
  numbers = (signal.SIGINT, signal.SIGTERM)
  before = [signal.getsignal(number) for number in numbers]
  with pytest.raises(KeyboardInterrupt), preemption.StopSignal() as stop:
    assert not stop.received(1)
    signal.raise_signal(signal.SIGINT)
    assert stop.received(2)
    assert stop.name == 'Ctrl-C'
  with preemption.StopSignal() as stop:
    signal.raise_signal(signal.SIGTERM)
    assert stop.received(1)
    assert stop.name == 'SIGTERM'
  with pytest.raises(KeyboardInterrupt), preemption.StopSignal() as stop:
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    raise AssertionError('the second one stops at once')
  assert before == [
    signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)
  ]


def test_a_signal_after_the_last_step_is_passed_on():
  received = []
  before = signal.signal(signal.SIGTERM, lambda *unused: received.append(1))
  try:
    with preemption.StopSignal() as stop:
      assert not stop.received(1)
      signal.raise_signal(signal.SIGTERM)
      assert not received
    assert received
  finally:
    signal.signal(signal.SIGTERM, before)
