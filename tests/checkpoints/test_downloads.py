"""Downloads of published .npz files, from a local server."""

import logging
import socket

import pytest

import local_server
from vit_jax import build, checkpoints
from vit_jax import config as config_lib
from vit_jax.checkpoints import downloads, location
import weights

NAME = 'vit:B/16-imagenet2012'
FILE = 'vit_models/imagenet21k+imagenet2012/ViT-B_16.npz'


@pytest.fixture
def server(monkeypatch, tmp_path):
  monkeypatch.setenv('VIT_JAX_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setenv('NO_PROXY', '*')
  with local_server.serve() as server:
    monkeypatch.setattr(location, 'GOOGLE_CLOUD', server.url)
    yield server


@pytest.fixture(scope='module')
def params():
  return weights.random_params(weights.tiny())


@pytest.fixture(scope='module')
def content(params, tmp_path_factory):
  path = tmp_path_factory.mktemp('npz') / 'a.npz'
  checkpoints.export(params, path)
  return path.read_bytes()


def _cached(tmp_path):
  return [p for p in (tmp_path / 'cache').rglob('*') if p.is_file()]


def test_a_name_is_downloaded_once(server, tmp_path, params, content, caplog):
  server.answers[f'/{FILE}'] = local_server.Answer(content)
  with caplog.at_level(logging.INFO):
    weights.assert_same(checkpoints.load(NAME), params)
  assert f'to {tmp_path}/cache/{FILE}' in caplog.text
  weights.assert_same(checkpoints.load(NAME), params)
  assert server.requested == [f'/{FILE}']
  assert _cached(tmp_path) == [tmp_path / 'cache' / FILE]


def test_a_config_keeps_the_name(server, params, content):
  server.answers[f'/{FILE}'] = local_server.Answer(content)
  start = build.load_weights(config_lib.base(init_from=NAME))
  weights.assert_same(start.params, params)
  assert start.path == NAME


def test_an_interrupted_download_leaves_nothing(
  server, tmp_path, params, content
):
  server.answers[f'/{FILE}'] = local_server.Answer(content, sent=1000)
  ended = f'the connection ended after 1,000 of {len(content):,} bytes'
  with pytest.raises(ValueError, match=f'ViT-B_16.npz .*{ended}') as error:
    checkpoints.load(NAME)
  assert '\n' not in str(error.value)
  assert _cached(tmp_path) == []
  server.answers[f'/{FILE}'] = local_server.Answer(content)
  weights.assert_same(checkpoints.load(NAME), params)


def test_a_missing_file_is_reported(server, tmp_path):
  with pytest.raises(
    ValueError, match=r'B_8-.*\.npz .*Not Found.*check the na'
  ):
    checkpoints.load('augreg:B/8')
  assert _cached(tmp_path) == []


def test_a_damaged_file_is_reported_with_its_name_and_path(server, tmp_path):
  server.answers[f'/{FILE}'] = local_server.Answer(b'PK, but not an archive')
  path = tmp_path / 'cache' / FILE
  with pytest.raises(ValueError) as error:
    checkpoints.load(NAME)
  assert str(error.value).startswith(f'{NAME} ({path}): not a readable .npz')


def test_storage_that_cannot_be_reached_is_reported(server, monkeypatch):
  with socket.create_server(('127.0.0.1', 0)) as closed:
    address = f'http://127.0.0.1:{closed.getsockname()[1]}'
  monkeypatch.setattr(location, 'GOOGLE_CLOUD', address)
  with pytest.raises(ValueError, match=f'{address}.*Connection refused'):
    checkpoints.load(NAME)


def test_a_cache_that_cannot_be_written_is_reported(
  server, tmp_path, monkeypatch, content
):
  (tmp_path / 'file').touch()
  monkeypatch.setenv('VIT_JAX_CACHE', str(tmp_path / 'file'))
  server.answers[f'/{FILE}'] = local_server.Answer(content)
  with pytest.raises(ValueError, match='cannot be downloaded.*VIT_JAX_CACHE'):
    checkpoints.load(NAME)


def test_the_default_cache(monkeypatch, tmp_path):
  monkeypatch.delenv('VIT_JAX_CACHE', raising=False)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  assert downloads.cache_folder() == tmp_path / 'xdg/vit_jax'
  monkeypatch.delenv('XDG_CACHE_HOME')
  monkeypatch.setenv('HOME', str(tmp_path))
  assert downloads.cache_folder() == tmp_path / '.cache/vit_jax'
