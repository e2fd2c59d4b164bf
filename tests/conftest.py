"""One temporary folder and one set of JAX options for a whole test session."""

import importlib.metadata
import os
import signal
import tempfile

import pytest

# Background jobs of a shell script ignore Ctrl-C, and so would programs started
# by tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

worker = os.environ.get('PYTEST_XDIST_WORKER')
if not worker:
  # TensorFlow, TFDS and killed processes leave files behind; all of them end up
  # here. pytest keeps its own folders where it always does.
  _session = tempfile.TemporaryDirectory(
    prefix='vit_jax_tests_', ignore_cleanup_errors=True
  )
  os.environ.setdefault('PYTEST_DEBUG_TEMPROOT', tempfile.gettempdir())
  os.environ['TMPDIR'] = tempfile.tempdir = _session.name

# Compiled programs are shared by the tests of a worker and the processes that
# they start. Workers share none: JAX does not write its files atomically.
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  os.path.join(tempfile.gettempdir(), 'compiled', worker or 'main'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
# Tiny models take longer to compile than to run.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
_FLAGS = ['--xla_cpu_parallel_codegen_split_count=1']
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  # Halves the time to compile; later versions have no other emitters.
  _FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ.setdefault('XLA_FLAGS', ' '.join(_FLAGS))
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

# Files that take minutes. The two workers start with them, so that both finish
# at about the same time.
_LONG = (
  'test_main.py',
  'test_program.py',
  'test_notebooks.py',
  'test_processes.py',
  'test_report.py',
)


def pytest_collection_modifyitems(items):
  items.sort(key=lambda item: item.path.name not in _LONG)


@pytest.fixture
def optimized():
  """Compiles as outside of tests, with all optimizations."""
  import jax  # After the options above are set.

  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', True)
