"""Pipes, devices and sockets, which may block or never end, are not read."""

import os
import socket

import pytest

from vit_jax import checkpoints
from vit_jax.data import class_names, exclusions
from vit_jax.evaluation import objectnet, real


@pytest.fixture
def special_paths(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # Names of sockets are short.
  os.mkfifo('pipe')
  with socket.socket(socket.AF_UNIX) as server:
    server.bind('socket')
    yield 'pipe', 'socket', '/dev/zero'


@pytest.mark.parametrize(
  'read',
  [
    checkpoints.load,
    real.read,
    lambda path: class_names.read(path, ''),
    lambda path: exclusions.read(path, 'digits', 'train'),
  ],
)
def test_special_files_are_refused(special_paths, read):
  for path in special_paths:
    with pytest.raises(ValueError, match=f'{path} is a named pipe, device or'):
      read(path)


def test_special_files_in_folders_are_refused(tmp_path):
  for name in ('model.safetensors', objectnet.FOLDERS):
    os.mkfifo(tmp_path / name)
  with pytest.raises(ValueError, match=r'model.safetensors is a named pipe'):
    checkpoints.load(tmp_path)
  with pytest.raises(ValueError, match=r'label\.json is a named pipe'):
    objectnet.read_mapping(tmp_path)
