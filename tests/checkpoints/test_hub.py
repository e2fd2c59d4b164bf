"""Downloads through the Hub's own client, from a local server."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time

import huggingface_hub
from huggingface_hub import constants
import pytest

import local_server
from vit_jax import checkpoints
from vit_jax.checkpoints import location
import weights

NAME = 'hf://org/tiny'
PARAMS = weights.random_params(weights.tiny(), (16, 16))
OTHER_PARAMS = weights.random_params(weights.tiny(), (16, 16), seed=1)


def _files(params, folder):
  checkpoints.export(params, folder, format='huggingface', gelu='erf')
  return {path.name: path.read_bytes() for path in folder.iterdir()} | {
    'pytorch_model.bin': b'never downloaded',
  }


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  return _files(PARAMS, tmp_path_factory.mktemp('hub') / 'main')


@pytest.fixture
def server(monkeypatch, tmp_path):
  monkeypatch.setenv('NO_PROXY', '*')
  huggingface_hub.close_session()  # Which may use a proxy.
  with local_server.serve() as server:
    for name, value in {
      'ENDPOINT': server.url,
      'HUGGINGFACE_CO_URL_TEMPLATE': (
        f'{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}'
      ),
      'HF_HUB_CACHE': str(tmp_path / 'hub'),
      'HF_HUB_OFFLINE': False,
      'HF_HUB_DISABLE_IMPLICIT_TOKEN': True,
      'HF_HUB_DISABLE_PROGRESS_BARS': True,
    }.items():
      monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(
      constants, 'AGENT_HARNESSES_PATH', str(tmp_path / 'agents'), raising=False
    )
    yield server
  huggingface_hub.close_session()


def publish(server, files, repository='org/tiny', revision='main'):
  """Serves a repository as the Hub does; returns the path of its files."""
  commit = hashlib.sha1(f'{repository}@{revision}'.encode()).hexdigest()
  api = f'/api/models/{repository}'
  listing = [
    {'type': 'file', 'path': name, 'size': len(x), 'oid': _etag(x)}
    for name, x in files.items()
  ]
  for path, content in {
    f'{api}/revision/{revision}': {'id': repository, 'sha': commit},
    f'{api}/tree/{commit}': listing,
  }.items():
    body = json.dumps(content).encode()
    headers = {'Content-Type': 'application/json'}
    server.answers[path] = local_server.Answer(body, headers)
  folder = f'/{repository}/resolve/{commit}'
  for name, x in files.items():
    headers = {'ETag': f'"{_etag(x)}"', 'X-Repo-Commit': commit}
    server.answers[f'{folder}/{name}'] = local_server.Answer(x, headers)
  return folder


def _etag(content):
  return hashlib.sha1(content).hexdigest()


def _error(name=NAME):
  with pytest.raises(ValueError) as error:
    checkpoints.load(name)
  assert '\n' not in str(error.value)
  assert str(error.value).startswith(name)
  return str(error.value)


def test_a_repository_is_downloaded_with_its_settings(server, files):
  folder = publish(server, files)
  params, description = checkpoints.load_with_description(NAME)
  weights.assert_same(params, PARAMS)
  assert description.gelu == 'erf'
  requested = {x for x in server.requested if x.startswith(folder)}
  assert requested == {
    f'{folder}/{name}'
    for name in ('model.safetensors', 'config.json', 'preprocessor_config.json')
  }
  server.requested.clear()
  weights.assert_same(checkpoints.load(NAME), PARAMS)
  assert not [x for x in server.requested if x.startswith(folder)]


@pytest.mark.parametrize('revision', ['v2', 'refs/pr/1'])
def test_a_revision_is_downloaded(server, files, tmp_path, revision):
  publish(server, files)
  publish(server, _files(OTHER_PARAMS, tmp_path / 'files'), revision=revision)
  weights.assert_same(checkpoints.load(f'{NAME}@{revision}'), OTHER_PARAMS)
  weights.assert_same(checkpoints.load(NAME), PARAMS)


def test_the_cache_is_used_offline(server, files, tmp_path):
  publish(server, files)
  checkpoints.load(NAME)
  load = f'from vit_jax import checkpoints; print(checkpoints.load({NAME!r}))'
  done = subprocess.run(
    [sys.executable, '-c', load],
    env=os.environ
    | {
      'HF_HUB_OFFLINE': '1',
      'HF_HUB_CACHE': str(tmp_path / 'hub'),
      'HF_ENDPOINT': 'http://127.0.0.1:1',
    },
    capture_output=True,
    text=True,
    check=True,
  )
  assert 'encoderblock_1' in done.stdout


def test_the_cache_is_used_without_a_connection(server, files, monkeypatch):
  publish(server, files)
  checkpoints.load(NAME)
  _use_closed_port(monkeypatch)
  weights.assert_same(checkpoints.load(NAME), PARAMS)


def _use_closed_port(monkeypatch):
  with socket.create_server(('127.0.0.1', 0)) as closed:
    url = f'http://127.0.0.1:{closed.getsockname()[1]}'
  monkeypatch.setattr(constants, 'ENDPOINT', url)


def test_a_hub_that_cannot_be_reached_is_reported(server, monkeypatch):
  _use_closed_port(monkeypatch)
  assert (
    'the Hub cannot be reached ([Errno 111] Connection refused)' in _error()
  )


def test_a_hub_that_does_not_answer_is_reported(server, monkeypatch):
  monkeypatch.setattr(location, '_TIMEOUT', 0.1)
  with socket.create_server(('127.0.0.1', 0)) as silent:
    url = f'http://127.0.0.1:{silent.getsockname()[1]}'
    monkeypatch.setattr(constants, 'ENDPOINT', url)
    assert 'the Hub cannot be reached (timed out)' in _error()


def test_offline_without_a_cache_is_reported(server, monkeypatch):
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  message = _error()
  assert 'is not in the cache' in message
  assert 'HF_HUB_OFFLINE' in message


def test_an_interrupted_download_leaves_no_checkpoint(
  server, files, tmp_path, monkeypatch
):
  monkeypatch.setattr(time, 'sleep', lambda seconds: None)  # It tries again.
  path = publish(server, files) + '/model.safetensors'
  complete = server.answers[path]
  server.answers[path] = complete._replace(sent=1000)
  assert 'cannot be downloaded' in _error()
  cached = [p.name for p in tmp_path.rglob('*') if p.is_file()]
  assert 'config.json' in cached
  assert 'model.safetensors' not in cached
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  assert 'is not in the cache' in _error()
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
  server.answers[path] = complete
  weights.assert_same(checkpoints.load(NAME), PARAMS)


@pytest.mark.parametrize('status', [401, 404])
def test_an_unknown_repository_is_reported(server, status):
  server.answers['/api/models/org/tiny/revision/main'] = local_server.Answer(
    headers={'X-Error-Code': 'RepoNotFound'}, status=status
  )
  assert 'does not exist on the Hub, or is private' in _error()


def test_a_gated_repository_is_reported(server):
  server.answers['/api/models/org/tiny/revision/main'] = local_server.Answer(
    headers={'X-Error-Code': 'GatedRepo'}, status=403
  )
  assert 'is gated: accept its conditions' in _error()


def test_an_unknown_revision_is_reported(server):
  server.answers['/api/models/org/tiny/revision/v3'] = local_server.Answer(
    headers={'X-Error-Code': 'RevisionNotFound'}, status=404
  )
  assert 'has no such revision' in _error(f'{NAME}@v3')


def test_a_repository_without_safetensors_is_refused(server, files):
  files = {k: v for k, v in files.items() if k != 'model.safetensors'}
  publish(server, files)
  assert 'has no model.safetensors, the only file of weights' in _error()


def test_a_missing_library_is_reported(monkeypatch):
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  assert 'run `pip install huggingface_hub`' in _error()
