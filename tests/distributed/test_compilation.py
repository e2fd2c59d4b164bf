from etils import epath
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import pytest

from vit_jax.distributed import compilation, topologies
from vit_jax.distributed import mesh as mesh_lib

pytest.importorskip('libtpu')


def arguments(mesh, rows, width):
  split = NamedSharding(mesh, PartitionSpec('data'))
  whole = NamedSharding(mesh, PartitionSpec())
  return (
    jax.ShapeDtypeStruct((rows, width), jnp.float32, sharding=split),
    jax.ShapeDtypeStruct((width, width), jnp.float32, sharding=whole),
  )


@pytest.fixture(scope='module')
def mesh():
  return mesh_lib.create(devices=topologies.describe('v3:2x2').devices)


@jax.jit
def loss_sum(x, w):
  return jnp.sum(jnp.tanh(x @ w) @ w)


def test_program_for_eight_cores(mesh):
  cost = compilation.compile_for_tpu(loss_sum, *arguments(mesh, 1024, 512))
  # An eighth of the rows, and all of the weights.
  assert cost.arguments == (1024 // 8 * 512 + 512 * 512) * 4
  assert cost.traffic['all-reduce'].count == 1
  assert cost.peak >= cost.arguments


def test_program_that_does_not_fit(mesh):
  with pytest.raises(compilation.DoesNotFitError, match='15.48 GiB') as error:
    compilation.compile_for_tpu(loss_sum, *arguments(mesh, 2**21, 2**15))
  assert error.value.needed > error.value.available == round(15.48 * 2**30)


def test_persistent_cache_is_only_used_in_its_context(tmp_path):
  given = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  seconds = jax.config.jax_persistent_cache_min_compile_time_secs
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
  try:
    with compilation.persistent_cache(epath.Path(tmp_path)):
      assert jax.config.jax_compilation_cache_dir == str(tmp_path)
      jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
      jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
    files = sorted(tmp_path.iterdir())
    (program,) = tmp_path.glob('*-cache')
    assert jax.config.jax_compilation_cache_dir is None
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.3
    jax.jit(lambda x: jnp.cos(x) @ x)(jnp.ones((3, 3)))
    assert sorted(tmp_path.iterdir()) == files
    # A process was killed before it had written another program.
    incomplete = tmp_path / 'jit_f-0123-cache'
    incomplete.write_bytes(program.read_bytes()[:9])
    with compilation.persistent_cache(epath.Path(tmp_path)):
      assert sorted(tmp_path.iterdir()) == files
  finally:
    jax.config.update('jax_compilation_cache_dir', given)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', seconds)


def test_configured_cache_folder_takes_precedence():
  given = jax.config.jax_compilation_cache_dir
  assert given  # Set in tests/conftest.py.
  with compilation.persistent_cache(epath.Path('/nowhere')):
    assert jax.config.jax_compilation_cache_dir == given
