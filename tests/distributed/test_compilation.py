from etils import epath
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import pytest

from vit_jax.distributed import compilation, limits, topologies
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
  rows, width, layers = 1024, 512, 4

  @jax.jit
  def gradient(x, w):
    def loss(w):
      def layer(x, _):
        return jnp.tanh(x @ w), None

      return jnp.sum(jax.lax.scan(layer, x, length=layers)[0] ** 2)

    return jax.grad(loss)(w)

  cost = compilation.compile_for_tpu(gradient, *arguments(mesh, rows, width))
  # An eighth of the rows, and all of the weights.
  assert cost.arguments == (rows // 8 * width + width * width) * 4
  assert cost.peak >= cost.arguments
  # One product in the forward pass, two in the backward pass.
  assert cost.operations == 3 * layers * 2 * (rows // 8) * width * width
  # Reads at least the arguments, and writes the gradient.
  assert cost.hbm_bytes >= cost.arguments + width * width * 4
  # The gradient, in a ring of four chips.
  assert cost.traffic['all-reduce'].count == 1
  assert cost.chip_bytes == 2 * 3 / 4 * width * width * 4
  assert cost.estimated_cycles > cost.operations / (2 * 2 * 128 * 128)

  # Two cores per chip share 123 TFLOP/s and 900 GB/s; a chip has two links with
  # 83 GB/s each.
  times = limits.seconds(cost, topologies.describe('v3:2x2'))
  assert times == pytest.approx(
    {
      'compute': cost.operations / 61.5e12,
      'HBM': cost.hbm_bytes / 450e9,
      'interconnect': cost.chip_bytes / 166e9,
    }
  )
  assert limits.binding(times) == 'HBM'


def test_products_with_sharded_weights_stay_whole(monkeypatch):
  devices = topologies.describe('v5e:2x2').devices
  mesh = mesh_lib.create(data=1, fsdp=4, devices=devices)
  rows = NamedSharding(mesh, PartitionSpec('fsdp'))
  shapes = (
    jax.ShapeDtypeStruct((2**18, 4096), jnp.bfloat16, sharding=rows),
    jax.ShapeDtypeStruct((4096, 1024), jnp.bfloat16, sharding=rows),
  )
  options = compilation.step_options(mesh)
  costs = [
    compilation.compile_for_tpu(
      jax.jit(jnp.dot, out_shardings=rows), *shapes, options=chosen
    )
    for chosen in (None, options)
  ]
  loops, whole = costs
  assert loops.traffic['collective-permute'].count > 0
  assert whole.traffic['collective-permute'].count == 0
  assert whole.hbm_bytes < loops.hbm_bytes
  assert whole.operations == loops.operations == 2 * 2**16 * 4096 * 1024

  data = mesh_lib.create(devices=devices)
  assert compilation.step_options(data) == {}
  unknown = {'xla_option_of_another_version': '1'}
  monkeypatch.setattr(compilation, '_WHOLE_PRODUCTS', unknown)
  assert compilation.step_options(mesh) == {}


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
    program, *_ = tmp_path.glob('*-cache')
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
