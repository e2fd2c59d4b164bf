import socket

import pytest

from vit_jax.checkpoints import location


@pytest.fixture
def storage(monkeypatch):
  """Sets the address at which Google Cloud Storage is looked for."""

  def set_address(address):
    monkeypatch.setattr(location, 'GOOGLE_CLOUD', f'http://{address}')
    location.unreachable.cache_clear()

  yield set_address
  location.unreachable.cache_clear()


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert location.expand('~/a') == tmp_path / 'a'
  assert str(location.expand('a/~')) == 'a/~'


@pytest.mark.parametrize(
  'url',
  ['https://x/y', 's3://b/x', 'file:///x', 'gs:///x', 'gs://', 'folder:gs://x'],
)
def test_other_urls_are_refused(url):
  message = f"'{url}' is a URL of an unsupported kind"
  with pytest.raises(ValueError, match=message):
    location.expand(url)


def test_storage_that_cannot_be_reached_is_refused(storage):
  with socket.create_server(('127.0.0.1', 0)) as server:
    address = f'127.0.0.1:{server.getsockname()[1]}'
  storage(address)  # Closed again.
  with pytest.raises(ValueError, match="'gs://b/x' .* Connection refused"):
    location.expand('gs://b/x')


def test_storage_that_does_not_answer_is_refused_in_time(storage, monkeypatch):
  monkeypatch.setattr(location, '_TIMEOUT', 0.1)
  with socket.create_server(('127.0.0.1', 0)) as server:
    storage(f'127.0.0.1:{server.getsockname()[1]}')
    with pytest.raises(ValueError, match="'gs://b/x' cannot be reached .timed"):
      location.expand('gs://b/x')
