"""Which process lists a folder, and which ones wait for it."""

from PIL import Image
import pytest

import runs
from vit_jax import build
from vit_jax.distributed import processes


@pytest.mark.parametrize('by_all', [True, False])
def test_other_processes_wait_for_the_index(tmp_path, monkeypatch, by_all):
  for label in 'ab':
    (tmp_path / 'images' / label).mkdir(parents=True)
    Image.new('RGB', (4, 4)).save(tmp_path / 'images' / label / '0.png')
  config = runs.load_config('folder', str(tmp_path / 'images'))
  config.data.index = str(tmp_path / 'index')
  waits = []

  def wait_for_all(reason):
    waits.append((tmp_path / 'index').exists())

  monkeypatch.setattr(processes, 'is_multiprocess', lambda: True)
  monkeypatch.setattr(processes, 'wait_for_all', wait_for_all)
  for is_first in (False, True):
    monkeypatch.setattr(processes, 'is_first', lambda first=is_first: first)
    build.open_split(config, config.data.name, 'train', by_all=by_all)
  assert waits == ([False, True] if by_all else [])
  # Other datasets, such as those of few-shot evaluation, have no index.
  build.open_split(config, 'digits', 'train', by_all=by_all)
  assert len(waits) == 2 * by_all
