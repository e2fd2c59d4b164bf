"""Weights from the folders of runs, which may be in progress."""

import json
import os
import shutil

from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax import checkpoints
from vit_jax.checkpoints import checksums
from vit_jax.checkpoints import store as store_lib
from vit_jax.training import state as state_lib
import weights


def params_at(step):
  return weights.random_params(weights.tiny(), seed=step)


def save(workdir, *steps, average=False):
  optimizer = optax.adam(0.1)
  with store_lib.Store(workdir / 'checkpoints') as store:
    for step in steps:
      params = jax.tree.map(jnp.asarray, params_at(step))
      state = state_lib.create(params, optimizer, average=average)
      if average:
        halved = jax.tree.map(lambda x: x / 2, params)
        state = state.replace(ema_params=halved)
      store.save(step, state, meta={'seconds': 1.0})


def test_newest_weights_are_loaded(tmp_path):
  save(tmp_path, 3, 10)
  config = {'model.gelu': 'erf', 'model.norm_eps': 1e-5, 'data.image_size': 24}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  for path in (tmp_path, tmp_path / 'checkpoints'):
    params, description = checkpoints.load_with_description(path)
    weights.assert_same(params, params_at(10))
    assert description.format == 'run'
    assert description.sizes['depth'] == 2
    assert (description.gelu, description.norm_eps) == ('erf', 1e-5)
    assert description.image_size == (24, 24)
  assert isinstance(params['cls'], np.ndarray)


def test_averaged_weights_are_preferred(tmp_path):
  save(tmp_path, 1, average=True)
  halved = jax.tree.map(lambda x: x / 2, params_at(1))
  weights.assert_same(checkpoints.load(tmp_path), halved)


def test_a_finished_run_needs_no_checkpoints(tmp_path):
  save(tmp_path, 3)
  config = {'model.gelu': 'erf', 'model.norm_eps': 1e-5}
  (tmp_path / 'config.json').write_text(json.dumps(config))
  checkpoints.export(params_at(10), tmp_path / 'final.npz')
  for _ in range(2):
    params, description = checkpoints.load_with_description(tmp_path)
    weights.assert_same(params, params_at(10))
    assert (description.gelu, description.norm_eps) == ('erf', 1e-5)
    shutil.rmtree(tmp_path / 'checkpoints', ignore_errors=True)


def test_unfinished_and_damaged_checkpoints_are_skipped(tmp_path, caplog):
  save(tmp_path, 1, 2)
  folder = tmp_path / 'checkpoints'
  unfinished = folder / '3.orbax-checkpoint-tmp'
  unfinished.mkdir()
  victim = max(folder.glob('2/state/d/*'), key=lambda path: path.stat().st_size)
  victim.write_bytes(victim.read_bytes()[:-1])
  weights.assert_same(checkpoints.load(tmp_path), params_at(1))
  assert 'checkpoints/2: state/d/' in caplog.text
  assert unfinished.exists()
  assert (folder / '2').exists()
  (folder / '1' / 'checksums.json').write_text('{')
  with pytest.raises(
    ValueError, match='every checkpoint is damaged: 2: .*; 1:'
  ):
    checkpoints.load(tmp_path)


def test_run_without_checkpoints_is_refused(tmp_path):
  (tmp_path / 'checkpoints').mkdir()
  with pytest.raises(ValueError, match='no finished checkpoint yet'):
    checkpoints.load(tmp_path)


def test_checkpoints_that_cannot_be_restored_are_one_error(tmp_path):
  save(tmp_path, 1)
  folder = tmp_path / 'checkpoints' / '1'
  (folder / 'state' / '_METADATA').write_text('{}')
  checksums.write_manifest(epath.Path(folder))  # As if it had been so.
  with pytest.raises(ValueError, match='checkpoint 1 cannot be restored') as e:
    checkpoints.load(tmp_path)
  assert '\n' not in str(e.value)
  (folder / 'checksums.json').unlink()
  os.mkfifo(folder / 'checksums.json')
  with pytest.raises(ValueError, match='checksums.json is not a file'):
    checkpoints.load(tmp_path)
