"""Checkpoints after saves, damage, kills and changes of mesh, bit by bit."""

import contextlib
import logging
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax.checkpoints import checksums
from vit_jax.checkpoints import store as store_lib
from vit_jax.training import state as state_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEBIBYTE = 1 << 20


def make_state(step, *, width=64, ema=True):
  """Returns a state whose bits are a function of the step."""
  rng = np.random.default_rng(step)
  bits = rng.integers(1 << 32, size=(width, 128), dtype=np.uint32)
  params = {
    'embed': {'kernel': jnp.asarray(rng.normal(size=(width, 8)), jnp.float32)},
    'head': {'bias': jnp.asarray(rng.normal(size=8), jnp.bfloat16)},
    'odd': jnp.array([np.nan, -0.0, np.inf, 1e-45], jnp.float32),
    'bits': jnp.asarray(bits),
  }
  optimizer = optax.chain(optax.scale_by_adam(), optax.scale(0.1))
  return state_lib.State(
    step=jnp.int32(step),
    params=params,
    ema_params=jax.tree.map(lambda x: x, params) if ema else None,
    opt_state=optimizer.init(params),
  )


def target_of(state):
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), state
  )


def assert_same_bits(left, right):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
    assert a.dtype == b.dtype
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save_all(folder, steps, **kwargs):
  with store_lib.Store(folder, **kwargs) as store:
    for step in steps:
      store.save(step, make_state(step), meta={'seen': step * 10})


def array_file(step_folder):
  return max(step_folder.rglob('*/d/*'), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize('ema', [True, False])
def test_state_and_meta_are_restored_exactly(tmp_path, ema):
  state = make_state(7, ema=ema)
  with store_lib.Store(tmp_path) as store:
    store.save(7, state, meta={'classes': ['cat', 'dog'], 'best': 0.5})
  with store_lib.Store(tmp_path) as store:
    restored = store.restore(target_of(state))
  assert restored.step == 7
  assert restored.meta == {'classes': ['cat', 'dog'], 'best': 0.5}
  assert_same_bits(restored.state, state)


def test_empty_folder_has_no_checkpoint(tmp_path):
  with store_lib.Store(tmp_path / 'new') as store:
    assert store.restore(target_of(make_state(0))) is None
    assert store.steps() == []


def test_newest_are_kept_and_lower_steps_refused(tmp_path):
  save_all(tmp_path, [1, 2, 3, 3, 5], keep=2)
  with store_lib.Store(tmp_path, keep=2) as store:
    assert store.steps() == [3, 5]
    with pytest.raises(ValueError, match='step 4: .* holds step 5'):
      store.save(4, make_state(4))
    assert_same_bits(
      store.restore(target_of(make_state(5))).state, make_state(5)
    )
  with pytest.raises(ValueError, match='1 or more, got 0'):
    store_lib.Store(tmp_path, keep=0)


def test_arrays_can_be_donated_during_a_save(tmp_path):
  step = jax.jit(lambda x: 2 * x + 1, donate_argnums=0)
  x = jnp.zeros((4 * MEBIBYTE,))
  with store_lib.Store(tmp_path) as store:
    for number in (1, 2, 3):
      x = step(x)
      store.save(number, {'x': x})
    jax.block_until_ready(step(x))
    restored = store.restore({'x': target_of(jnp.zeros_like(x))})
  np.testing.assert_array_equal(restored.state['x'], 7.0)


def flip(path):
  data = bytearray(path.read_bytes())
  middle = len(data) // 2
  data[middle : middle + 64] = bytes(255 - b for b in data[middle:][:64])
  path.write_bytes(data)


def cut(path):
  os.truncate(path, path.stat().st_size // 2)


DAMAGE = {
  'bytes flipped': (lambda f: flip(array_file(f)), 'have changed'),
  'array cut': (lambda f: cut(array_file(f)), 'bytes instead of'),
  'array missing': (lambda f: array_file(f).unlink(), 'is missing'),
  'index cut': (lambda f: cut(f / 'state/manifest.ocdbt'), 'bytes instead of'),
  'metadata cut': (lambda f: cut(f / 'state/_METADATA'), '_METADATA has'),
  'json cut': (lambda f: cut(f / 'meta/metadata'), 'meta/metadata has'),
  'step metadata cut': (
    lambda f: cut(f / '_CHECKPOINT_METADATA'),
    '_CHECKPOINT_METADATA cannot be read',
  ),
  'manifest cut': (lambda f: cut(f / checksums.MANIFEST), 'cannot be read'),
  'manifest missing': (
    lambda f: (f / checksums.MANIFEST).unlink(),
    'checksums.json is missing',
  ),
  'emptied': (lambda f: shutil.rmtree(f) or f.mkdir(), 'is missing'),
}


@pytest.fixture(scope='module')
def two_steps(tmp_path_factory):
  folder = tmp_path_factory.mktemp('two_steps')
  save_all(folder, [1, 2])
  return folder


@pytest.mark.parametrize('kind', DAMAGE)
def test_damaged_checkpoint_falls_back_to_the_previous_one(
  two_steps, tmp_path, caplog, kind
):
  folder = tmp_path / 'checkpoints'
  shutil.copytree(two_steps, folder)
  damage, reason = DAMAGE[kind]
  damage(folder / '2')
  with store_lib.Store(folder) as store:
    with caplog.at_level(logging.WARNING):
      restored = store.restore(target_of(make_state(1)))
    assert (restored.step, restored.meta) == (1, {'seen': 10})
    assert_same_bits(restored.state, make_state(1))
    (warning,) = [r for r in caplog.records if r.filename == 'store.py']
    assert f'{folder}/2 is damaged' in warning.getMessage()
    assert reason in warning.getMessage()
    assert (folder / '2.damaged').is_dir()
    store.save(2, make_state(2))
  with store_lib.Store(folder) as store:
    assert store.steps() == [1, 2]
    assert store.restore(target_of(make_state(2))).step == 2


def test_damaged_checkpoints_get_unused_names(tmp_path):
  save_all(tmp_path, [1, 2])
  for _ in range(2):
    flip(array_file(tmp_path / '2'))
    with store_lib.Store(tmp_path) as store:
      assert store.restore(target_of(make_state(1))).step == 1
      store.save(2, make_state(2))
  assert {'2', '2.damaged', '2.damaged-2'} <= set(os.listdir(tmp_path))


def test_nothing_is_changed_if_all_are_damaged(two_steps, tmp_path):
  folder = tmp_path / 'checkpoints'
  shutil.copytree(two_steps, folder)
  flip(array_file(folder / '1'))
  cut(array_file(folder / '2'))
  before = sorted(folder.rglob('*'))
  with (
    store_lib.Store(folder) as store,
    pytest.raises(store_lib.DamagedCheckpointError) as error,
  ):
    store.restore(target_of(make_state(1)))
  for part in (str(folder), '1: the bytes of', '2: state/', 'another workdir'):
    assert part in str(error.value)
  assert sorted(folder.rglob('*')) == before


def test_another_model_is_refused_by_parameter(two_steps, tmp_path):
  folder = tmp_path / 'checkpoints'
  shutil.copytree(two_steps, folder)
  state = make_state(2)
  params = dict(state.params, head={'bias': jnp.zeros(5)}, new=jnp.zeros(3))
  del params['odd']
  with (
    store_lib.Store(folder) as store,
    pytest.raises(ValueError, match='different model') as error,
  ):
    store.restore(target_of(state.replace(params=params)))
  message = str(error.value)
  assert 'params/head/bias is bfloat16[8] in the checkpoint, float32[5]' in (
    message
  )
  assert 'params/new is not in the checkpoint' in message
  assert 'params/odd is only in the checkpoint' in message


# TensorStore calls into Orbax's closed event loop when a write fails.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_failed_save_is_reported_and_keeps_older_checkpoints(tmp_path):
  # With a limit on file sizes, the kernel refuses writes as for a full disk.
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  state = make_state(1, width=8192)
  with store_lib.Store(tmp_path, keep=1) as store:
    store.save(1, state)
    store.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEBIBYTE, hard))
    try:
      store.save(2, state)
      with pytest.raises(
        store_lib.SaveError, match='step 2 .* could not'
      ) as error:
        store.wait()
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 'step 2 (17.0 MiB)' in str(error.value)
    assert f'in {tmp_path}: File too large.' in str(error.value)
    assert 'MiB are free' in str(error.value)
    assert 'Existing steps: 1.' in str(error.value)
    assert '\n' not in str(error.value)
    store.save(2, state)
    store.wait()
    assert store.steps() == [2]


def run_python(code, *args, **env):
  folders = ROOT, ROOT / 'tests', ROOT / 'tests' / 'checkpoints'
  return subprocess.Popen(
    [sys.executable, '-c', code, *map(str, args)],
    env=os.environ | {'PYTHONPATH': os.pathsep.join(map(str, folders))} | env,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


SAVE_FOREVER = """
import itertools, sys
import test_store as tests
folder, first = sys.argv[1], int(sys.argv[2])
with tests.store_lib.Store(folder, keep=2) as store:
  for step in itertools.count(first):
    store.save(step, tests.make_state(step, width=tests.LARGE))
"""
LARGE = 1 << 15  # 70 MB with the averages and Adam's moments.


def unfinished(folder):
  return list(folder.glob('*.orbax-checkpoint-tmp'))


def finished(folder):
  return [path for path in folder.glob('*') if path.name.isdigit()]


MOMENTS = {  # When to kill, as seen from another process.
  'arrays are being written': lambda f: any(
    path.stat().st_size > MEBIBYTE for path in f.glob('*tmp/*tmp/*/d/*')
  ),
  'checksums are written': lambda f: list(f.glob('*tmp/checksums.json')),
  'the oldest is being deleted': lambda f: len(finished(f)) > 2,
}


def test_kill_at_any_moment_leaves_complete_checkpoints(tmp_path):
  newest, interrupted_saves = 0, 0
  for moment, is_reached in MOMENTS.items():
    saver = run_python(SAVE_FOREVER, tmp_path, newest + 1)
    start, reached = newest, False
    deadline = time.monotonic() + 30
    while not reached:
      assert saver.poll() is None, saver.stderr.read()
      assert time.monotonic() < deadline, f'never saw that {moment}'
      with contextlib.suppress(FileNotFoundError):  # Renamed while listing.
        newest = max([int(path.name) for path in finished(tmp_path)], default=0)
        reached = newest > start and is_reached(tmp_path)
    saver.send_signal(signal.SIGKILL)
    saver.communicate()
    interrupted_saves += len(unfinished(tmp_path))
    with store_lib.Store(tmp_path, keep=2) as store:
      restored = store.restore(target_of(make_state(0, width=LARGE)))
      assert restored.step >= newest
      assert_same_bits(restored.state, make_state(restored.step, width=LARGE))
      newest = restored.step
  assert interrupted_saves > 0


MOVE_TO_EIGHT_DEVICES = """
import sys
import jax
import test_store as tests
mesh = jax.make_mesh(
  (4, 2), ('data', 'fsdp'), (jax.sharding.AxisType.Auto,) * 2
)
def shard(x):
  spec = jax.P('fsdp') if x.ndim and x.shape[0] % 2 == 0 else jax.P()
  return jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=jax.NamedSharding(mesh, spec)
  )
with tests.store_lib.Store(sys.argv[1]) as store:
  target = jax.tree.map(shard, tests.make_state(1))
  restored = store.restore(target)
  for x, like in zip(
    jax.tree.leaves(restored.state), jax.tree.leaves(target), strict=True
  ):
    assert x.sharding == like.sharding
  tests.assert_same_bits(restored.state, tests.make_state(1))
  store.save(2, restored.state)
"""


def test_one_device_to_eight_and_back(tmp_path):
  save_all(tmp_path, [1])
  child = run_python(MOVE_TO_EIGHT_DEVICES, tmp_path, JAX_NUM_CPU_DEVICES='8')
  _, errors = child.communicate(timeout=60)
  assert child.returncode == 0, errors
  with store_lib.Store(tmp_path) as store:
    restored = store.restore(target_of(make_state(1)))
  assert restored.step == 2
  assert_same_bits(restored.state, make_state(1))
