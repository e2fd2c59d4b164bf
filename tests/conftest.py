"""Compiled programs are shared by all tests and the processes they start."""

import os
import tempfile

_cache = tempfile.TemporaryDirectory(prefix='vit_jax_tests_')
cache = os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', _cache.name)
if worker := os.environ.get('PYTEST_XDIST_WORKER'):
  # JAX does not write its files at once, and another worker would read them.
  os.environ['JAX_COMPILATION_CACHE_DIR'] = os.path.join(cache, worker)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
